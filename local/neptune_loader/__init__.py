"""Neptune's bulk loader beside Gremlin Server: `/loader` of the cluster, on the AWS endpoint of a laptop.

It reads its files out of moto's S3 with a role of moto's IAM, and loads them into Gremlin Server. Nothing here was
measured against the real service. Each rule names its source:

* [model X]: botocore's model of neptunedata (api 2023-08-01), or the documentation inside it;
* [loader: page]: the Neptune user guide, "Using the Amazon Neptune bulk loader": load-api-reference-load-errors,
  load-api-reference-status-requests, load-api-reference-status-response, load-api-reference-cancel, loader-message,
  bulk-load-tutorial-format-gremlin, bulk-load-tutorial-IAM;
* [run elsewhere]: an answer of a real cluster in https://github.com/aws/graph-notebook/issues/710;
* [strict]: the documentation is silent or contradicts itself, and the stricter reading was taken.

Not emulated, and refused: formats other than Gremlin CSV, `dependencies`, and an address that does not begin with
`s3://`. A vertex has one label here, as TinkerGraph knows no other.
"""
