"""A receiver of the webhook destination, on the AWS endpoint of a laptop, under /webhook.

Its rules are those of docs/reference/webhook.md, by their numbers there, and it is strict: a request that breaks a rule
is refused. `POST /cohort-flywheel/webhook` orders faults, `GET` returns what it has received.
"""
