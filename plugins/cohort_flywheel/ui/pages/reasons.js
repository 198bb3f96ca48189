// What each reason of a reject means, and what to do. A test compares the names with segment/contacts.py.
export const REASONS = {
  do_not_contact: ["on the do-not-contact list", "Nothing: the player asked not to be contacted."],
  bounced: ["an e-mail to the address bounced", "Ask for another address in the game."],
  complained: ["complained about an e-mail", "Nothing: the player does not want e-mails."],
  unsubscribed: ["unsubscribed by an e-mail", "Nothing, until the player subscribes again."],
  no_record: ["no record in the contacts table", "If there are many, look at the job that fills the contacts table."],
  opted_out: ["no consent", "Nothing: the player has not agreed. If there are many, check consent in cohorts.yaml."],
  no_address: ["no address", "Ask for the address in the game."],
  bad_address: ["the address is not valid", "Correct the address in the contacts table."],
  bad_value: ["the destination refuses a value of the record", "Correct the attribute that the reject names in the contacts table."],
  missing_value: ["a value that the e-mail needs is missing", "Fill the attribute, or give the placeholder a default in the template."],
  recently_mailed: ["recently mailed", "Nothing: the player gets the template again after not_again_days."],
  holdout: ["held out", "Nothing: these players measure the effect of campaigns."],
  launch_holdout: ["held out of this launch", "Nothing: these players measure the effect of this e-mail."],
};

export const LIMITS = {
  min_members: "at least so many members",
  max_members: "at most so many members",
  max_change_percent: "change since the result before, in percent",
  max_reject_percent: "rejects for data faults, in percent of the members",
};
