"""The audit log, for comparison with the answers of clients: lines by request, and counts of decisions without a line of their own.

Under pressure the gateway counts refusals of callers without credentials (`refusals_folded`), and answers whose line finds no room
(`answers_folded`), in one line a second and address. An answer without a line of its own must be among these.
"""

import json
from collections import Counter

REASON, DECISION = "gateway.folded.reason.", "gateway.folded.decision."


class AuditLog:
    def __init__(self, path):
        self.lines, self.refusals, self.decisions = {}, Counter(), Counter()
        with open(path, errors="replace") as file:
            for text in file:
                # The last line may be incomplete while it is written.
                if text.endswith("}\n"):
                    self._add(json.loads(text))

    def _add(self, line):
        if "gateway.request_id" in line:
            self.lines[line["gateway.request_id"]] = line
        for counts, prefix in ((self.refusals, REASON), (self.decisions, DECISION)):
            counts.update({name.removeprefix(prefix): count for name, count in line.items() if name.startswith(prefix)})

    def unrecorded(self, answers):
        """From answers as (request id, status, the echo of an upstream or None): those whose line has another status, and those
        without a line beyond what the counts cover."""
        known = [answer for answer in answers if answer[0]]
        wrong = [answer for answer in known if answer[0] in self.lines and self.lines[answer[0]].get("http.response.status_code") != answer[1]]
        without = [answer for answer in known if answer[0] not in self.lines]
        served = [answer for answer in without if answer[1] < 400 or answer[2]]
        refused = [answer for answer in without if not (answer[1] < 400 or answer[2])]
        # A request that was allowed and failed is counted by its decision, not by its status.
        spare = max(0, self.decisions.total() - len(served))
        return wrong + served[self.decisions.total():] + refused[self.refusals.total() + spare:]

    def not_allowed(self, answers):
        """From the answers of an upstream: those whose line, or else whose count, does not say that they were allowed."""
        served = [answer for answer in answers if answer[2]]
        denied = [answer for answer in served if answer[0] in self.lines and self.lines[answer[0]].get("gateway.decision") != "allow"]
        return denied + [answer for answer in served if answer[0] not in self.lines][self.decisions["allow"]:]
