"""Personal data are found in every form that people write, and what looks like them is not."""

import time

import pytest

from gptexp.auditing.personal_data import find_personal_data, mask_personal_data

FORMS = {
    "e-mail": [
        "john.doe+tag@mail.example.co.uk",
        "<müller@web.de>",
        "J_D@X.ORG.",
        "{ann,bob.c}@cs.uni.edu",
        "mailto:a@b.info",
        "o'neil@x.com",
        "jane (at) uni-bonn (dot) de",
        "jane[at]uni.edu",
        "jane at uni dot edu",
        "name @ example.com",
        '"john doe"@example.com',
        "info＠example.com",
    ],
    "IBAN": [
        "DE89 3704 0044 0532 0130 00",
        "GB29NWBK60161331926819",
        "FR14 2004 1010 0505 0001 3M02 606",
        "de89370400440532013000",
        "NL91-ABNA-0417-1643-00",
    ],
    "card number": [
        "4111 1111 1111 1111",
        "5555-5555-5555-4444",
        "378282246310005",
        "3782 822463 10005",
        "6011111111111117.",
        "30569309025904",
        "6759649826438453",
        "4111 1111\u00a01111 1111",
    ],
    "social security number": [
        "123-45-6789",
        "SSN: 123 45 6789",
        "social security number 123456789",
        "AB 12 34 56 C",
        "15070649C103",
        "1 85 05 78 006 084 91",
    ],
    "IP address": [
        "192.168.1.17",
        "ping 8.8.8.8",
        "http://93.184.216.34/x",
        "10.0.0.12:8080",
        "2001:db8:85a3::8a2e:370:7334",
        "fe80::1ff:fe23:4567:890a",
    ],
    "phone": [
        "+49 30 123456",
        "+49 (0)30 1234567",
        "+1-555-123-4567",
        "(555) 123-4567",
        "555.123.4567",
        "1-800-555-0199",
        "0049 30 12345678",
        "030 12345678",
        "0171/2345678",
        "06 12 34 56 78",
        "020 7946 0958",
        "Tel.: 3456789",
        "my phone is 555-0123",
        "+14155550123",
        "+91 98765 43210",
        "+49–171–1234567",
        "212 555 0147",
        "call me at 5551234567",
        "01.23.45.67.89",
        "8 (495) 123-45-67",
        "(11) 91234-5678",
        "1.800.555.1234",
    ],
    "street address": [
        "12 Baker Street, London",
        "221B Baker St.",
        "Hauptstraße 12",
        "10 rue de la Paix",
        "Calle Mayor 5",
    ],
}
NO_DATA = """x = a@b.T|icon@2x.png|self.q@self.weight(x)|numpy==1.2.3.4|version 10.2.33.4|Section 3.1.2.4|
2024-03-03 12:30:45|01-02-2003|03.04.2021 1200|pages 123-145|arXiv 1704.04368|ISBN 0-306-40615-2|
ISBN 978-3-16-148410-0|0.123 0.456 0.789|1998-2004|std::vector a::b dead::beef|x[1::2]|+12.5 34.5|1e+10|1,234,567,890|
1234567890123456|3.14159265358979|4111 1111 1111 1112|DE89370400440532013001|15070649C104|000-12-3456|10 000 000|
Phone 12 (2021)|512 256 128 64|1920x1080|20 000 steps|v1.10.100.1000|127.0.0.1|255.255.255.0|00:1b:44:11:3a:b7|

call 1000000 times|
128 256 512 1024|a @ b.mT|x + 1.07757928431867/y|Boston MA 02110-1301|
12 34 56 78 90|(a) 12-34|meet @ noon|
look at the dot product dot space|the Main Street Grill|12 of the Streets""".replace("\n", "")


@pytest.mark.parametrize(("kind", "form"), [(kind, form) for kind in FORMS for form in FORMS[kind]])
def test_each_form_is_found_once(kind, form):
    text = f"We met Anna ({form}) in 2003, and 17 others."
    [datum] = find_personal_data(text)
    assert datum.kind == kind
    assert text[datum.start :].startswith(datum.text)


@pytest.mark.parametrize("text", NO_DATA.split("|"))
def test_what_looks_like_personal_data_is_none(text):
    assert not find_personal_data(f"We saw {text} yesterday.")


def test_a_report_masks_what_was_found():
    text = "Write to jane.doe@example.org, +49 30 1234567, or DE89 3704 0044 0532 0130 00."
    masked = mask_personal_data(text)
    assert masked.startswith("Write to j***.d***@e***.org, +4* ** *****67, or DE** ")
    assert not find_personal_data(masked)


def test_a_long_text_without_spaces_takes_no_time():
    start = time.process_time()
    many = " ".join(f"n{number}@example.org" for number in range(20_000))
    assert len(find_personal_data(many)) == 20_000
    for text in ("a" * 200_000, "1" * 200_000, "a.b@" * 50_000, "1 2 3 4 5 6 7 8 9 0 " * 10_000):
        assert not find_personal_data(text)
    assert time.process_time() - start < 10  # 0.5 on an idle machine
