"""Message templates of Amazon Q in Connect, beside moto's services, in knowledge bases of type MESSAGE_TEMPLATES.

Nothing here was measured against the real service. Each rule names its source:

* [shape X]: botocore's model of the service (api 2020-10-19), or the documentation inside it;
* [Connect guide: page]: the administrator guide of Amazon Connect;
* [Pinpoint docs: end of support]: the page that says how templates are moved from there;
* [strict]: the documentation is silent or contradicts itself, and the stricter reading was taken.

Not emulated, and refused: channels other than e-mail, attachments, and of Handlebars all but plain variables.
"""
