"""Cohort Flywheel: the players of one cohort beyond one threshold, as a segment that a campaign can be sent to."""
