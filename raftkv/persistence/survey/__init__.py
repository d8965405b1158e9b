"""Reading a log of which parts do not check out: what is there, what is missing, and what is not known to be ours.

The strict reader (:mod:`~raftkv.persistence.log`) stops at the first damage. This one goes on behind it, for those who
repair a log or tell an operator about it. It changes nothing, and blocks.

**What a gap leaves open.** Where a header cannot be read nobody knows what its record said: an entry, or that entries
before it are void. So what lies in front of a gap may no longer have been part of the log when what lies behind it was
written: there is a *seam* between them, until somebody who holds the entry behind it confirms what came before it (two
logs that hold the same entry are equal up to it, section 5.3). Where only a payload cannot be read, its header says
which entry is missing, and there is no seam.

``surveying`` goes through the segments; ``media`` reads what can be read of them, ``scanning`` finds the records in
that, ``slots`` is what they say of the entries, and ``findings`` what is told of it all.
"""

from raftkv.persistence.survey.findings import Gap, SegmentReport, Survey
from raftkv.persistence.survey.slots import Slot, Slots
from raftkv.persistence.survey.surveying import Visit, survey_log

__all__ = ["Gap", "SegmentReport", "Slot", "Slots", "Survey", "Visit", "survey_log"]
