"""Amazon SES's contact-list imports, templates and sends (API v2), beside moto's own services.

Nothing here was measured against the service. Each rule names its source:

* [shape X]: botocore's model of the service (api 2019-09-27), or the documentation inside it;
* [SES docs: page]: the developer guide;
* [asked]: floci (github.com/floci-io/floci), another emulator, whose authors write that they tested the live service;
* [strict]: the documentation is silent or contradicts itself, and the stricter reading was taken.
"""
