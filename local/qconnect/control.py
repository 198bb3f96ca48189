"""Settings of message templates that a test may change while the server runs."""

from dataclasses import dataclass

from local.rest_json.control import Control, Settings


@dataclass
class TemplateSettings(Settings):
    # [Connect guide: agent assist service quotas] "Number of message (email, SMS, WhatsApp) templates per knowledge
    # base", which AWS raises on request, and "Number of versions per message […] template", which it does not.
    templates_per_knowledge_base: int = 200
    versions_per_template: int = 20


control = Control(TemplateSettings)
