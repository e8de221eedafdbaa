"""What lockdownd's errors mean for an operator: a reason and a remedy for each. Pure.

The names: libimobiledevice, `src/lockdown.c` (`lockdownd_error_to_string` and its inverse), and
what newer phones answer beyond it.
"""

from __future__ import annotations

from agent.reasons import Reason, ReasonCode
from agent.wire.lockdown import DAMAGED, Refusal
from agent.wire.usbmux import QUOTE

NOT_PAIRED = Reason("not trusted: unlock the phone and tap Trust", ReasonCode.NOT_TRUSTED)
_RECORD = Reason(
    "not trusted: the phone refuses this host's pairing record; "
    "unlock it, plug it in anew and tap Trust",
    ReasonCode.NOT_TRUSTED,
)
_PASSCODE = Reason("locked: enter the passcode on the phone", ReasonCode.LOCKED)
_NOT_ACTIVATED = Reason(
    "not activated: finish its set-up, with a network, and plug it in", ReasonCode.NOT_ACTIVATED
)
_SESSION = "its lockdownd ended the session; if it stays so, plug the phone in anew or restart it"

_STANDING: dict[str, Reason] = {
    "PasswordProtected": _PASSCODE,
    "PasscodeRequired": _PASSCODE,
    "DeviceLocked": _PASSCODE,
    "EscrowLocked": Reason(
        f"{_PASSCODE.text}: it was not unlocked since it was started, or its escrow keys are "
        "locked",
        ReasonCode.LOCKED,
    ),
    "UserDeniedPairing": Reason(
        "not trusted: somebody tapped Don't Trust; plug the phone in anew and tap Trust",
        ReasonCode.NOT_TRUSTED,
    ),
    "PairingDialogResponsePending": Reason(
        f"{NOT_PAIRED.text}: it is asking right now", ReasonCode.NOT_TRUSTED
    ),
    "PairingProhibitedOverThisConnection": Reason(
        "not trusted: it pairs over a cable only; plug it into this host and tap Trust",
        ReasonCode.NOT_TRUSTED,
    ),
    "TrustedPeerRequired": NOT_PAIRED,
    "NotTrusted": NOT_PAIRED,
    "InvalidHostID": _RECORD,
    "MissingHostID": _RECORD,
    DAMAGED: Reason(
        "not trusted: this host's pairing record of the phone is damaged; remove it (`idevicepair "
        "unpair`), plug the phone in anew and tap Trust",
        ReasonCode.NOT_TRUSTED,
    ),
    "InvalidPairRecord": _RECORD,
    "MissingPairRecord": _RECORD,
    "SavePairRecordFailed": Reason(
        "not trusted: the phone could not keep the pairing record; free space on it, restart it "
        "and tap Trust",
        ReasonCode.NOT_TRUSTED,
    ),
    "MCProtected": Reason(
        "managed: its management profile keeps this host out; allow pairing with computers in "
        "the MDM, or supervise it from this host",
        ReasonCode.MANAGED,
    ),
    "PairingProhibitedByMCProfile": Reason(
        "managed: its management profile forbids pairing with computers; allow it in the MDM, "
        "plug the phone in anew and tap Trust",
        ReasonCode.MANAGED,
    ),
    "MCChallengeRequired": Reason(
        "managed: it is supervised and asks for its supervisor's certificate; pair it with that, "
        "or allow pairing with any computer in the MDM",
        ReasonCode.MANAGED,
    ),
    "FMiPProtected": Reason(
        "locked: Find My protects it (lost mode or activation lock); unlock it by its owner's "
        "Apple account",
        ReasonCode.FIND_MY,
    ),
    "InvalidActivationRecord": _NOT_ACTIVATED,
    "MissingActivationRecord": _NOT_ACTIVATED,
}
"""Those that are the phone's standing word on this host."""

_PASSING = {
    "SessionActive": (
        "busy: another session is open on that connection; if it stays so, restart the phone"
    ),
    "ServiceLimit": (
        "busy: too many services run on it; end what else uses it from a computer, or restart it"
    ),
    "SessionInactive": _SESSION,
    "MissingSessionID": _SESSION,
    "InvalidSessionID": _SESSION,
    "InvalidConnection": _SESSION,
    "InvalidService": "its lockdownd does not know the service; restart the phone",
    "MissingService": "its lockdownd does not know the service; restart the phone",
    "ServiceProhibited": "its lockdownd forbids the service; look at its restrictions, restart it",
    "GetProhibited": "it tells nothing of itself; look at its restrictions, restart it",
    "MissingValue": "it has no value for what it was asked; restart the phone",
    "InternalError": "its lockdownd has an error of its own; restart the phone",
    "InvalidResponse": "its lockdownd did not understand; restart the phone",
    "UnknownRequest": "its lockdownd did not understand; restart the phone",
    "InvalidRequest": "its lockdownd did not understand; restart the phone",
}
"""Those that may be chance: of a phone that was ready one proves nothing."""


def is_standing(refusal: Refusal) -> bool:
    """Whether that is the phone's standing word, which asking again would not change."""
    return refusal.code in _STANDING


def reason_of(refusal: Refusal) -> Reason:
    """Why the phone cannot be used, and what to do; an unknown code as it is."""
    if is_standing(refusal):
        return _STANDING[refusal.code]
    known = _PASSING.get(refusal.code, "")
    if known.startswith("busy"):
        return Reason(known, ReasonCode.BUSY)
    said = f"{refusal.request}: {refusal.code}"[:QUOTE]
    what = known or "unlock the phone and plug it in anew; if it stays so, restart it"
    return Reason(f"refused: it answered {said}; {what}", ReasonCode.REFUSED)
