"""Outbound campaigns of Amazon Connect (connectcampaignsv2), as an extension of moto's connectcampaigns.

Nothing here was measured against the real service. Each rule names its source:

* [shape X]: botocore's model of the service (api 2024-04-23), or the documentation inside it;
* [Connect guide: page]: the administrator guide of Amazon Connect;
* [strict]: the documentation is silent or contradicts itself, and the stricter reading was taken.

Emulated are e-mail campaigns to a segment of Customer Profiles, from the creation to their end. Not emulated: other
channels, event triggers, journeys, pausing, communication times and limits, and segments that are looked at again.
"""
