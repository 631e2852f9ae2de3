"""Check digits of account, card and social security numbers. Each function takes the number without separators."""

_IBAN_COUNTRIES = {  # ISO 13616: number of characters -> countries
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
IBAN_LENGTHS = {
    country: length
    for length, countries in _IBAN_COUNTRIES.items()
    for country in countries.split()
}
CARD_ISSUERS = (  # (first digits from, to, lengths)
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("6011", "6011", (16, 19)),  # Discover
    ("644", "659", (16, 19)),
    ("3528", "3589", (16, 19)),  # JCB
    ("300", "305", (14,)),  # Diners Club
    ("36", "36", (14, 16, 19)),
    ("38", "39", (14, 16, 19)),
    ("6759", "6759", (16, 18, 19)),  # Maestro
    ("6761", "6763", (16, 18, 19)),
    ("5018", "5038", (16, 18, 19)),
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
)


def is_iban(number: str) -> bool:
    """Check the length and the remainder by 97 of an IBAN (ISO 13616, ISO 7064)."""
    number = number.upper()
    if len(number) != IBAN_LENGTHS.get(number[:2]):
        return False
    rearranged = number[4:] + number[:4]
    return int("".join(str(int(character, 36)) for character in rearranged)) % 97 == 1


def is_card_number(digits: str) -> bool:
    """Check the issuer, the length and the Luhn digit (ISO/IEC 7812) of a payment card."""
    is_issued = any(
        low <= digits[: len(low)] <= high and len(digits) in lengths
        for low, high, lengths in CARD_ISSUERS
    )
    if not is_issued or len(set(digits)) == 1:
        return False
    doubled = [2 * int(digit) for digit in digits[-2::-2]]
    total = sum(int(digit) for digit in digits[-1::-2]) + sum(
        value - 9 if value > 9 else value for value in doubled
    )
    return total % 10 == 0


def is_french_security_number(number: str) -> bool:
    """Check the key of a French NIR: 97 minus the remainder of its first 13 characters by 97."""
    digits = number.upper().replace("2A", "19").replace("2B", "18")
    return digits.isdigit() and len(digits) == 15 and 97 - int(digits[:13]) % 97 == int(digits[13:])


def is_german_security_number(number: str) -> bool:
    """Check the last digit of a German Versicherungsnummer (SGB VI, section 147): 8 digits, a letter, 3 digits."""
    digits = f"{number[:8]}{ord(number[8].upper()) - 64:02}{number[9:11]}"
    weights = (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1)
    products = (int(digit) * weight for digit, weight in zip(digits, weights, strict=True))
    return sum(product // 10 + product % 10 for product in products) % 10 == int(number[11])
