"""Arguments and results as JSON text that comes back type for type, or is refused.

What lives here: the text's format and the four functions that write and read it. What does not:
names of functions (`references`, handed in as a `Resolver`). Called by the actions and the runner.

The format, version 1
    A value is `[1,value]`; arguments are `[1,[positional...],{keyword...}]`; the first item is the
    version. The text is ASCII. None, bool, str, finite float, int within 64 bit, list, and dict
    with str keys are as in JSON. All else is an object whose key "$" holds a tag:

    {"$":"tuple","v":[...]}          also set, frozenset; deque has "max" too
    {"$":"dict","v":[[k,v],...]}     a dict with other keys, or with the key "$"; also
                                     ordereddict, counter; defaultdict has its factory in "c" too
    {"$":"int","v":"0x..."}          beyond 64 bit; {"$":"float","v":"nan"}: not finite
    {"$":"str","v":base64}           with surrogates; also bytes, bytearray
    {"$":"complex","v":[re,im]}      also fraction, range
    {"$":"decimal","v":text}         also uuid, path and ip (their class in "c"), url (likewise)
    {"$":"datetime","v":iso}         "tz" and "fold" where they are set; also time, date,
                                     timedelta, timezone, zoneinfo, pydantic_tz
    {"$":"enum","c":name,"v":member} flag: the members and what is left of the number
    {"$":"namedtuple","c":name,"v":{field:value}}       also dataclass
    {"$":"model","c":name,"v":{...},"set":[...]}        "extra" and "private" where there are any
    {"$":"ref","c":name}             a class or function itself; "c" is always "module:qualname"

Reading it calls no `__init__` and no validator, and nothing by name: a class in the text must be
what its tag says. A field that its class has gained gets its default; any other difference is a
PayloadError.
"""

from __future__ import annotations

from embedded_tasks.payload.codec import decode, decode_arguments, encode, encode_arguments
from embedded_tasks.payload.core import Resolver

__all__ = ["Resolver", "decode", "decode_arguments", "encode", "encode_arguments"]
