"""What the services of Amazon Connect have in common here: JSON over HTTP, as botocore's models describe it.

moto routes, authorizes and keeps accounts and regions apart; a service adds a method for each operation, which is given
the request after it was held against its shape and returns what its answer holds.
"""
