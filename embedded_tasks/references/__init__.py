"""Names for functions, classes and global objects, and the way back from a name.

What lives here: which packages are known, `module:qualname` names, and how a call becomes a name
and arguments. What does not: arguments as text (`payload`). Called by the runner and the actions.

A name is given only to what the name leads back to: the same object, not one that looks like it.
Only known packages are ever imported: those of the app's routes, those in
`TaskRunner(..., modules=[...])`. Beside them there is a short list of standard functions.
"""

from __future__ import annotations

from embedded_tasks.references.calls import Target
from embedded_tasks.references.known import STANDARD, References
from embedded_tasks.references.refusals import refuse_call

__all__ = ["STANDARD", "References", "Target", "refuse_call"]
