"""Find personal data in texts by their form, and by their check digits where they have some.

Kinds: e-mail, IBAN, card number, social security number, phone, IP address, street address. Names of people are not
found: a form does not tell them from other words.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from gptexp.auditing import checksums

Spans = Iterator[tuple[int, int]]


class PersonalDatum(NamedTuple):
    kind: str
    start: int
    text: str

    @property
    def masked(self) -> str:
        """The text with most of its letters and digits hidden, for a report that others may read."""
        if self.kind == "e-mail" and "@" in self.text:
            return re.sub(r"(?<=[^\W_])[^\W_]+(?=.*@)|(?<=@[^\W_])[^\W_]+", "***", self.text)
        margin = 2 if len(self.text) > 6 else 1
        middle = re.sub(r"[^\W_]", "*", self.text[margin:-margin])
        return self.text[:margin] + middle + self.text[-margin:]


def find_personal_data(text: str) -> list[PersonalDatum]:
    """Return the personal data of a text in their order; where two kinds overlap, the one that is surer."""
    data: list[PersonalDatum] = []
    is_taken = bytearray(len(text))  # 1 for each character of a datum
    plain = text if text.isascii() else text.translate(_PLAIN_CHARACTERS)
    has_digits = any(digit in plain for digit in "0123456789")
    for kind, (needs_digits, find) in _DETECTORS.items():
        if needs_digits and not has_digits:
            continue
        for start, end in find(plain):
            if not any(is_taken[start:end]):
                is_taken[start:end] = b"\1" * (end - start)
                data.append(PersonalDatum(kind, start, text[start:end]))
    return sorted(data, key=lambda datum: datum.start)


# Full-width characters, dashes and spaces of print, each with the plain character that it stands for.
_PLAIN_CHARACTERS: dict[int, int | str | None] = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2212), "-"),
    **dict.fromkeys((0xA0, 0x2007, 0x2009, 0x202F, 0x3000), " "),
}


def mask_personal_data(text: str) -> str:
    """Return a text with its personal data masked."""
    for datum in reversed(find_personal_data(text)):
        text = text[: datum.start] + datum.masked + text[datum.start + len(datum.text) :]
    return text


# E-mail
_DOMAIN = r"(?:\w(?:[\w-]{0,61}\w)?\.){1,8}[^\W\d_]{2,24}"
_EMAIL = re.compile(
    rf"(?<![\w.+-])(?:\w(?:[\w.+'%-]{{0,62}}[\w+-])?|\{{[\w.,;\s+-]{{3,300}}\}}|\"[^\"\n]{{1,64}}\")@{_DOMAIN}(?![\w@([])"
)
# name @ domain.org
_SPACED_EMAIL = re.compile(
    r"(?<![\w.+-])\w[\w.+-]{0,63} @ (?:[\w-]+\.)+(?:com|org|net|edu|gov|de|uk|fr|es|it)(?![\w@([])"
)
# name (at) domain [dot] org, name at domain dot org
_SPELT_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}\s?(?:[\[({<]\s?at\s?[\])}>]\s?(?:[\w-]+(?:\.|\s?[\[({<]\s?(?:dot|punkt)\s?[\])}>]\s?))+"
    r"|\sat\s(?:[\w-]{2,}\s(?:dot|punkt)\s)+)(?:[a-z]{2}|com|org|net|edu|gov|info|mail)(?!\w)",
    re.IGNORECASE,
)
_FILE_EXTENSION = re.compile(
    r"\.(png|jpe?g|gif|svg|webp|bmp|ico|css|js|json|html?|pdf)$", re.IGNORECASE
)


def _emails(text: str) -> Spans:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            if not _FILE_EXTENSION.search(match[0]):  # icon@2x.png
                yield match.span()
        yield from (match.span() for match in _SPACED_EMAIL.finditer(text))
    lower = text.lower()
    if "at" in lower and any(
        word in lower for word in ("dot", "punkt", "(at)", "[at]", "{at}", "<at>")
    ):
        yield from (match.span() for match in _SPELT_EMAIL.finditer(text))


# IBAN, and numbers of payment cards
_IBAN_START = re.compile(r"(?<![^\W_])[A-Za-z]{2}\d{2}(?=[ -]?[A-Za-z0-9])")
_CARD = re.compile(
    r"(?<![\w.])(?<!\d[-+])(?:\d{13,19}|\d{4}(?:[ -]\d{4}){3}(?:[ -]?\d{1,3})?"
    r"|\d{4}[ -]\d{6}[ -]\d{4,5})(?!\w|[.,-]\d)"
)


def _ibans(text: str) -> Spans:
    for match in _IBAN_START.finditer(text):
        length = checksums.IBAN_LENGTHS.get(match[0][:2].upper(), 0)
        number, end = "", match.start()
        while end < len(text) and len(number) < length:
            character = text[end]
            if character.isascii() and character.isalnum():
                number += character
            elif character not in " -":
                break
            end += 1
        is_complete = end == len(text) or not text[end].isalnum()
        if is_complete and len(number) == length > 0 and checksums.is_iban(number):
            yield match.start(), end


def _cards(text: str) -> Spans:
    for match in _CARD.finditer(text):
        if checksums.is_card_number(re.sub(r"\D", "", match[0])):
            yield match.span()


# Social security numbers
_US_SECURITY_NUMBER = re.compile(
    r"(?<![\w.+-])(?!000|666|9\d\d)\d{3}(?P<separator>[- ]?)(?!00)\d\d(?P=separator)(?!0000)\d{4}(?!\w|[-.]\d)"
)
_US_KEYWORD = re.compile(r"\b(ssn|social[ -]security)\b[^.\n]{0,40}$", re.IGNORECASE)
_UK_SECURITY_NUMBER = re.compile(
    r"(?<![\w.-])(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D](?![\w-])"
)
_FRENCH_SECURITY_NUMBER = re.compile(
    r"(?<![\w.])[1-478]\s?\d\d\s?\d\d\s?(?:\d\d|2[ABab])\s?\d{3}\s?\d{3}\s?\d\d(?!\w|[.,]\d)"
)
_GERMAN_SECURITY_NUMBER = re.compile(r"(?<!\w)\d\d ?\d{6} ?[A-Za-z] ?\d{3}(?!\w)")


def _security_numbers(text: str) -> Spans:
    for match in _US_SECURITY_NUMBER.finditer(text):
        before = text[max(0, match.start() - 60) : match.start()]
        if match["separator"] == "-" or _US_KEYWORD.search(before):
            yield match.span()
    yield from (match.span() for match in _UK_SECURITY_NUMBER.finditer(text))
    checked = (
        (_FRENCH_SECURITY_NUMBER, checksums.is_french_security_number),
        (_GERMAN_SECURITY_NUMBER, checksums.is_german_security_number),
    )
    for pattern, is_valid in checked:
        for match in pattern.finditer(text):
            if is_valid(re.sub(r"\s", "", match[0])):
                yield match.span()


# IP addresses
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"(?<![\w.])(?:{_OCTET}\.){{3}}{_OCTET}(?!\w|\.\w)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{1,4}|:)(?::[0-9a-fA-F]{0,4}){2,7}(?![\w:])")
_VERSION_BEFORE = re.compile(
    r"(?:\bv|versions?|ver\.?|release|sections?|sec\.|§|chapter|tables?|figures?|fig\.|equation|eq\.|[=><~]=?|\d[-–])\s*$",
    re.IGNORECASE,
)
_ADDRESS_BEFORE = re.compile(
    r"\b(?:ip|address|host|server|dns|ping|from|to|via|at|client|gateway|router|addr)\b\W*$|://$|@$",
    re.IGNORECASE,
)


def _ip_addresses(text: str) -> Spans:
    for match in _IPV4.finditer(text):
        before = text[max(0, match.start() - 16) : match.start()]
        address = ipaddress.IPv4Address(match[0])
        if _VERSION_BEFORE.search(before) or address.is_loopback or address.packed[0] in (0, 255):
            continue
        # The numbers of sections are small: 3.1.2.4.
        if (
            max(address.packed) > 9
            or _ADDRESS_BEFORE.search(before)
            or text[match.end()][:1] in ":/"
        ):
            yield match.span()
    for match in _IPV6.finditer(text):
        try:
            address6 = ipaddress.IPv6Address(match[0])
        except ValueError:
            continue
        first = match[0].split(":")[0]
        num_digits = len(match[0].replace(":", ""))
        # Not a::b of a program, nor [2::2] of a slice.
        if not address6.is_loopback and len(first) >= 3 and num_digits >= 5:
            yield match.span()


# Phone numbers
_COUNTRY_CODE = (
    r"(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|2[1-69]\d|3[578]\d|42\d|5[09]\d|6[789]\d|"
    r"8[0578]\d|9[679]\d)"
)
_INTERNATIONAL = re.compile(
    rf"(?<![\w+=*/.])(?:\+{_COUNTRY_CODE}|00{_COUNTRY_CODE}(?=[\s(/-]))"
    rf"(?:[\s.\-/]?\(?\d{{1,12}}\)?){{1,8}}(?!\w|[.,]\d)"
)
_NORTH_AMERICAN = re.compile(
    r"(?<![\w+.,/-])(?:1[-. ])?(?:\(\d{3}\) ?|\d{3}(?P<separator>[-.]))\d{3}(?:(?P=separator)|[-. ])\d{4}"
    r"(?!\w|[-.]\d)"
    r"|(?<![\w+.,/-])(?<!\d )[2-9]\d\d [2-9]\d\d \d{4}(?!\w|[-., ]\d)"
)
_TRUNK = re.compile(
    r"(?<![\w+.,/:-])\(?0[1-9]\d{0,4}\)?(?: ?[/-] ?|[ .])\d{2,8}(?:[ ./-]\d{2,6}){0,4}(?!\w|[-/.,:]\d)"
)
_PAIRS = re.compile(
    r"(?<![\w+.,/:-])0[1-9](?P<separator>[ .-])\d\d(?:(?P=separator)\d\d){3}(?!\w|[-/.,:]\d)"
)
_AREA = re.compile(r"(?<![\w+.,/-])(?:\d )?\(\d{2,5}\) ?\d{2,5}(?:[ -]\d{2,4}){1,3}(?!\w|[-.]\d)")
_AFTER_KEYWORD = re.compile(
    r"(?:\b(?:tele?(?:phone|fon|fono)?|t[ée]l(?:[ée]phone)?|(?:phone|mobile?|cell|fon|handy|m[oó]vil|fax|whatsapp|hotline)"
    r"(?:[ -]?(?:no|nr|number|nummer))?)\b|[☎📞])[^\w\n]{0,4}(?:(?:is|ist|at|unter|no|nr)\b[^\w\n]{0,3})?"
    r"(?P<number>\+?(?:\(\d{1,5}\) ?)?\d[\d .\-/]{3,22}\d)(?!\w|[.,]\d)",
    re.IGNORECASE,
)
_AFTER_CALL = re.compile(
    r"\b(?:call|dial|reach|text|ring|phone)(?: (?:me|us|him|her|them|now|at|on|under))*:? "
    r"(?P<number>\d{9,12}|\d{3}-\d{4})(?!\w|[-.,]\d)",
    re.IGNORECASE,
)
# Nor is the postal code 02110-1301 a phone number.
_DATE_OR_CODE = re.compile(
    r"\d{5}-\d{4}$|\d{1,2}([-./])\d{1,2}\1\d{2,4}|\d{4}([-./])\d{1,2}\2\d{1,2}"
)


def _phones(text: str) -> Spans:
    forms = (
        (_INTERNATIONAL, 8, 15),
        (_NORTH_AMERICAN, 10, 11),
        (_PAIRS, 10, 10),
        (_TRUNK, 9, 12),
        (_AREA, 9, 12),
    )
    for pattern, least, most in forms:
        for match in pattern.finditer(text):
            num_digits = sum(character.isdigit() for character in match[0])
            is_other = pattern is _TRUNK and _DATE_OR_CODE.match(match[0])
            if least <= num_digits <= most + match[0].startswith("00") * 2 and not is_other:
                yield match.span()
    for match in _AFTER_KEYWORD.finditer(text):
        num_digits = sum(character.isdigit() for character in match["number"])
        if 6 <= num_digits <= 15 and not _DATE_OR_CODE.match(match["number"]):
            yield match.span("number")
    yield from (match.span("number") for match in _AFTER_CALL.finditer(text))


# Street addresses of English, German, French, Spanish and Italian
_STREET = re.compile(
    r"(?<![\w.,-])\d{1,5}[A-Za-z]? (?:(?:North|South|East|West|[NSEW]\.?) )?(?:[A-Z][\w'’.-]+ ){1,3}"
    r"(?:Street|St\.?|Avenue|Ave\.?|Road|Rd\.?|Lane|Ln\.?|Drive|Dr\.?|Boulevard|Blvd\.?|Court|Ct\.?|Square|Terrace|"
    r"Parkway|Pkwy\.?|Crescent|Highway|Hwy\.?)(?!\w)"
    r"|\b[A-ZÄÖÜ][\w-]*(?:[Ss]tra(?:ß|ss)e|[Ss]tr\.|weg|gasse|platz|allee|ufer|damm)\s\d{1,4}(?: ?[a-z])?(?!\w|\.\d)"
    r"|(?<![\w.,-])\d{1,4}(?: ?(?:bis|ter))?,? (?:rue|avenue|av\.|boulevard|bd|place|impasse|chemin|quai) "
    r"(?:d(?:e|u|es) (?:la )?|de l['’]|d['’])?[A-ZÀ-Ý][\w'’-]+(?: [A-ZÀ-Ý][\w'’-]+){0,3}"
    r"|\b(?:Calle|Avenida|Avda\.|Plaza|Via|Viale|Piazza|Corso) (?:d[ei]l{0,2}a? )?[A-ZÀ-Ý][\w'’-]+"
    r"(?: [A-ZÀ-Ý][\w'’-]+){0,3},? (?:n\.? ?º? ?)?\d{1,4}(?!\w)"
)


def _streets(text: str) -> Spans:
    yield from (match.span() for match in _STREET.finditer(text))


# In the order of their certainty; True: the kind needs a digit.
_DETECTORS: dict[str, tuple[bool, Callable[[str], Spans]]] = {
    "e-mail": (False, _emails),
    "IBAN": (True, _ibans),
    "card number": (True, _cards),
    "social security number": (True, _security_numbers),
    "IP address": (True, _ip_addresses),
    "phone": (True, _phones),
    "street address": (True, _streets),
}
