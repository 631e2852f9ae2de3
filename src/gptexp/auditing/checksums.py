"""Check digits of account, card and social security numbers. Each function takes the number without separators."""

IBAN_LENGTHS = {  # ISO 13616: country -> characters
    "AD": 24,
    "AE": 23,
    "AL": 28,
    "AT": 20,
    "AZ": 28,
    "BA": 20,
    "BE": 16,
    "BG": 22,
    "BH": 22,
    "BI": 27,
    "BR": 29,
    "BY": 28,
    "CH": 21,
    "CR": 22,
    "CY": 28,
    "CZ": 24,
    "DE": 22,
    "DJ": 27,
    "DK": 18,
    "DO": 28,
    "EE": 20,
    "EG": 29,
    "ES": 24,
    "FI": 18,
    "FK": 18,
    "FO": 18,
    "FR": 27,
    "GB": 22,
    "GE": 22,
    "GI": 23,
    "GL": 18,
    "GR": 27,
    "GT": 28,
    "HR": 21,
    "HU": 28,
    "IE": 22,
    "IL": 23,
    "IQ": 23,
    "IS": 26,
    "IT": 27,
    "JO": 30,
    "KW": 30,
    "KZ": 20,
    "LB": 28,
    "LC": 32,
    "LI": 21,
    "LT": 20,
    "LU": 20,
    "LV": 21,
    "LY": 25,
    "MC": 27,
    "MD": 24,
    "ME": 22,
    "MK": 19,
    "MN": 20,
    "MR": 27,
    "MT": 31,
    "MU": 30,
    "NI": 28,
    "NL": 18,
    "NO": 15,
    "OM": 23,
    "PK": 24,
    "PL": 28,
    "PS": 29,
    "PT": 25,
    "QA": 29,
    "RO": 24,
    "RS": 22,
    "RU": 33,
    "SA": 24,
    "SC": 31,
    "SD": 18,
    "SE": 24,
    "SI": 19,
    "SK": 24,
    "SM": 27,
    "SO": 23,
    "ST": 25,
    "SV": 28,
    "TL": 23,
    "TN": 24,
    "TR": 26,
    "UA": 29,
    "VA": 22,
    "VG": 24,
    "XK": 20,
    "YE": 30,
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
