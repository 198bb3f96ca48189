"""Amazon Pinpoint's import jobs, segments and endpoints, beside moto's own services.

Pinpoint ended on 2026-10-30, so nothing here was measured against it. Each rule names its source:

* [shape X]: botocore's model of the service (api 2016-12-01), or the documentation inside it;
* [Pinpoint docs: page]: the user guide or the developer guide;
* [strict]: the documentation is silent or contradicts itself, and the stricter reading was taken.
"""
