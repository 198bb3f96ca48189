"""Metrics of Amazon Connect (connect: GetMetricDataV2), as an extension of moto's connect.

Nothing here was measured against the real service. Each rule names its source:

* [shape X]: botocore's model of the service (api 2017-08-08), or the documentation inside it;
* [strict]: the documentation is silent, and the stricter reading was taken.

Emulated are the metrics of outbound campaigns for the interval TOTAL, with the filter CAMPAIGN. The control plane of
local/connect_campaigns sets faults, and counts the calls.
"""
