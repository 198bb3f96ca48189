"""What the services of Amazon Connect have in common here: JSON over HTTP, as botocore's models describe it.

moto routes, authorizes and separates accounts and regions; a service adds one method per operation, which gets the
request validated against its shape and returns the members of the response.
"""
