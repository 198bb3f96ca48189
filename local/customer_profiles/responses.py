"""Customer Profiles' operations as HTTP."""

from typing import Any

from local.rest_json.responses import RestJsonResponse

from .control import control
from .models import BadRequestError, CustomerProfilesBackend, backends
from .profiles import MODEL, ProfileError

_SEARCH_PAGE = 20  # [shape SearchProfilesRequest.MaxResults] "The default is 20"


class CustomerProfilesResponse(RestJsonResponse):
    model = MODEL
    invalid = ("BadRequestException", 400)
    control = control

    @property
    def backend(self) -> CustomerProfilesBackend:
        return backends[self.current_account][self.region]

    @property
    def domain(self) -> str:
        return str(self.request["DomainName"])

    # --- domains

    def create_domain(self) -> str:
        return self.answer(**self.backend.create_domain(self.domain, self.request).document())

    def get_domain(self) -> str:
        domain = self.backend.domain(self.domain)
        count = len(domain.book.by_id)
        # [shape DomainStats] [strict] each profile is one object; sizes are not kept.
        stats = {"ProfileCount": count, "MeteringProfileCount": count, "ObjectCount": count, "TotalSize": 0}
        return self.answer(**domain.document(), Stats=stats)

    def list_domains(self) -> str:
        kept = ("DomainName", "CreatedAt", "LastUpdatedAt", "Tags")
        items = [domain.document() for domain in self.backend.domains.values()]
        return self._listed([{k: item[k] for k in kept if k in item} for item in items], "DomainName")

    def delete_domain(self) -> str:
        self.backend.delete_domain(self.domain)
        return self.answer(Message="OK. Deleted.")

    # --- upload jobs

    def create_upload_job(self) -> str:
        return self.answer(JobId=self.backend.create_upload_job(self.domain, self.request).id)

    def get_upload_job_path(self) -> str:
        path = self.backend.upload_path(self.domain, self.request["JobId"])
        url = f"{self.parsed_url.scheme}://{self.parsed_url.netloc}{path.key}"
        return self.answer(Url=url, ClientToken=path.token, ValidUntil=path.valid_until)

    def start_upload_job(self) -> str:
        self.backend.start_upload_job(self.domain, self.request["JobId"])
        return self.answer()

    def stop_upload_job(self) -> str:
        self.backend.stop_upload_job(self.domain, self.request["JobId"])
        return self.answer()

    def get_upload_job(self) -> str:
        return self.answer(**self.backend.upload_job(self.domain, self.request["JobId"]).document(control.now()))

    def list_upload_jobs(self) -> str:
        """Newest first [strict: the order is not documented]."""
        jobs = reversed(self.backend.domain(self.domain).jobs.values())
        return self._listed([job.item(control.now()) for job in jobs], "JobId")

    # --- segments

    def create_segment_definition(self) -> str:
        made = self.backend.create_definition(self.domain, self.request["SegmentDefinitionName"], self.request)
        return self.answer(**{name: value for name, value in made.item().items() if name != "SegmentType"})

    def get_segment_definition(self) -> str:
        return self.answer(**self._definition().document())

    def list_segment_definitions(self) -> str:
        found = self.backend.domain(self.domain).definitions.values()
        return self._listed([definition.item() for definition in found], "SegmentDefinitionName")

    def delete_segment_definition(self) -> str:
        self.backend.delete_definition(self.domain, self.request["SegmentDefinitionName"])
        return self.answer(Message="OK. Deleted.")

    def create_segment_estimate(self) -> str:
        made = self.backend.create_estimate(self.domain, self.request)
        return self.answer(DomainName=self.domain, EstimateId=made.id)

    def get_segment_estimate(self) -> str:
        found = self.backend.estimate(self.domain, self.request["EstimateId"])
        status = found.status(control.now())
        return self.answer(
            DomainName=self.domain,
            EstimateId=found.id,
            Status=status,
            Estimate=str(found.size) if status == "SUCCEEDED" else None,
            Message="The estimate could not be computed." if status == "FAILED" else None,
        )

    def get_segment_membership(self) -> str:
        definition, profiles = self._definition(), self.backend.domain(self.domain).book.by_id
        wanted = self.request["ProfileIds"]
        present = {member["ProfileId"] for member in self.backend.members(self.domain, definition.groups)}
        missing = {"Message": "The profile does not exist.", "Status": 404}
        return self.answer(
            SegmentDefinitionName=self.request["SegmentDefinitionName"],
            Profiles=[
                {"ProfileId": i, "QueryResult": "PRESENT", "Profile": profiles[i].document}
                if i in present
                else {"ProfileId": i, "QueryResult": "ABSENT"}
                for i in wanted
                if i in profiles
            ],
            Failures=[{"ProfileId": i} | missing for i in wanted if i not in profiles],
            LastComputedAt=control.now(),
        )

    # --- profiles

    def create_profile(self) -> str:
        return self.answer(ProfileId=self.backend.create_profile(self.domain, self._profile()))

    def update_profile(self) -> str:
        self.backend.update_profile(self.domain, self.request["ProfileId"], self._profile())
        return self.answer(ProfileId=self.request["ProfileId"])

    def delete_profile(self) -> str:
        self.backend.delete_profile(self.domain, self.request["ProfileId"])
        return self.answer(Message="OK. Deleted.")

    def batch_get_profile(self) -> str:
        profiles, wanted = self.backend.domain(self.domain).book.by_id, self.request["ProfileIds"]
        missing = {"Code": "ResourceNotFoundException", "Message": "The profile does not exist."}
        return self.answer(
            Profiles=[profiles[i].document for i in wanted if i in profiles],
            Errors=[{"ProfileId": i} | missing for i in wanted if i not in profiles],
        )

    def search_profiles(self) -> str:
        keys = [self.request, *self.request.get("AdditionalSearchKeys", ())]
        pairs = [(key["KeyName"], key["Values"]) for key in keys]
        book = self.backend.domain(self.domain).book
        try:
            # [shape SearchProfilesRequest.LogicalOperator] OR is its default.
            found = list(book.search(pairs, every=self.request.get("LogicalOperator") == "AND"))
        except ProfileError as wrong:
            raise BadRequestError(str(wrong)) from None
        return self._listed(found, "ProfileId", _SEARCH_PAGE)

    # --- reading a request

    def _profile(self) -> dict[str, Any]:
        if "EngagementPreferences" in self.request:
            raise BadRequestError("EngagementPreferences is not emulated.")
        return {name: value for name, value in self.request.items() if name not in ("DomainName", "ProfileId")}

    def _definition(self) -> Any:
        return self.backend.definition(self.domain, self.request["SegmentDefinitionName"])

    def _listed(self, items: list[dict[str, Any]], key: str, default: int | None = None) -> str:
        page, token = self.page(items, key, self.request.get("MaxResults", default), self.request.get("NextToken"))
        return self.answer(Items=page, NextToken=token)
