"""Amazon Connect Customer Profiles: domains, upload jobs, profiles and segments, beside moto's own services.

Nothing here was measured against the real service. Each rule names its source:

* [shape X]: botocore's model of the service (api 2020-08-15), or the documentation inside it;
* [Connect guide: page]: the administrator guide of Amazon Connect;
* [S3 docs: page]: the documentation of Amazon S3, which takes the file of an upload job;
* [strict]: the documentation is silent or contradicts itself, and the stricter reading was taken.

Not emulated, and refused: SQL segments, calculated attributes, identity resolution.
"""
