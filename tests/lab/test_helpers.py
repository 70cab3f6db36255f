# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions whose helpers expect something: before, at and after a takeover.

Packet by packet, with what each side sees, where test_sessions.py has real programs.
"""

import ipaddress
import re
import socket
import struct

import pytest

from ctnl import EXPECTED
from lab import SERVER, SERVER6, wait_for
from matrix import KINDS, client_address, expect_differences, go_on, target_address
from packets import ACK, PSH, TCP, UDP, Talk, udp
from tools import takeover


def peer_of(talk):
    return SERVER6 if ":" in talk.src else SERVER


def commas(address, port):
    return ",".join([*address.split("."), str(port >> 8), str(port & 255)]).encode()


def ftp_session(matrix, name, family, network, target, active):
    """A control connection on which a port is told; it, and what the other side heard.

    The helper expects one data connection at a time.
    """
    talk = matrix.talk(f"ftp {name}", TCP, client_address(family, network), target_address(family, target),
                       6001 + active, 21)
    talk.tcp_open()
    talk.tcp_server(ACK | PSH, b"220 ready\r\n")
    talk.tcp_client(ACK | PSH, b"USER x\r\n")       # the helper wants to have seen the end of a line
    if active:
        port = commas(talk.src, 10001) if family == 4 else b"|2|%s|10001|" % talk.src.encode()
        return talk, talk.tcp_client(ACK | PSH, (b"PORT %s\r\n" if family == 4 else b"EPRT %s\r\n") % port)[3]
    talk.tcp_client(ACK | PSH, b"PASV\r\n" if family == 4 else b"EPSV\r\n")
    if family == 4:
        said = b"227 Entering Passive Mode (%s).\r\n" % commas(SERVER, 10002)
    else:
        said = b"229 Entering Extended Passive Mode (|||10002|)\r\n"
    return talk, talk.tcp_server(ACK | PSH, said)[3]


def port_in(heard, family, peer):
    """Address and port in a command or an answer."""
    if family == 4:
        numbers = [int(n) for n in re.search(rb"(\d+,){5}\d+", heard).group().split(b",")]
        return ".".join(map(str, numbers[:4])), numbers[4] << 8 | numbers[5]
    address, port = re.search(rb"\|(?:2\|([0-9a-f:]+)|\|)\|(\d+)\|", heard).groups()
    return str(ipaddress.ip_address(address.decode())) if address else peer, int(port)


def irc_session(matrix, name, network):
    talk = matrix.talk(f"irc {name}", TCP, client_address(4, network), SERVER, 6012, 6667)
    talk.tcp_open()
    address = struct.unpack("!I", socket.inet_aton(talk.src))[0]
    talk.tcp_client(ACK | PSH, b"PRIVMSG you :\1DCC SEND file %d 10003 42\1\r\n" % address)


def sane_session(matrix, name, family, network):
    talk = matrix.talk(f"sane {name}", TCP, client_address(family, network), target_address(family, None),
                       6003, 6566)
    talk.tcp_open()
    talk.tcp_client(ACK | PSH, struct.pack("!II", 7, 0))
    talk.tcp_server(ACK | PSH, struct.pack("!IHH", 0, 0, 10004) + bytes(4))


def amanda_session(matrix, name, family, network):
    talk = matrix.talk(f"amanda {name}", UDP, client_address(family, network), target_address(family, None),
                       6004, 10080)
    talk.exchange()
    said = b"Amanda 2.6 REP HANDLE 1 SEQ 2\nCONNECT DATA 10005 MESG 10006 INDEX 10007\nOPTIONS ;\n"
    talk.answer(lambda s, d, a, b: udp(s, d, a, b, said))


def tftp_session(matrix, name, family, network, target):
    talk = matrix.talk(f"tftp {name}", UDP, client_address(family, network), target_address(family, target),
                       6005, 69)
    talk.ask(lambda s, d, a, b: udp(s, d, a, b, b"\0\1file\0octet\0"))
    return talk


def sip_session(matrix, name, family, network):
    talk = matrix.talk(f"sip {name}", UDP, client_address(family, network), target_address(family, None),
                       5060, 5060)
    kind, host = ("IP4", talk.src) if family == 4 else ("IP6", talk.src)
    bracketed = host if family == 4 else f"[{host}]"
    body = (f"v=0\r\no=- 1 1 IN {kind} {host}\r\ns=-\r\nc=IN {kind} {host}\r\nt=0 0\r\n"
            "m=audio 10008 RTP/AVP 0\r\n")
    head = (f"INVITE sip:you@example.org SIP/2.0\r\nVia: SIP/2.0/UDP {bracketed}:5060;branch=z9hG4bK1\r\n"
            f"From: <sip:me@{bracketed}>;tag=1\r\nTo: <sip:you@example.org>\r\nCall-ID: {name}@x\r\n"
            f"CSeq: 1 INVITE\r\nContact: <sip:me@{bracketed}:5060>\r\nContent-Type: application/sdp\r\n"
            f"Content-Length: {len(body)}\r\n\r\n")
    talk.ask(lambda s, d, a, b: udp(s, d, a, b, (head + body).encode()))


def pptp_message(kind, body):
    return struct.pack("!HHIHH", 12 + len(body), 1, 0x1a2b3c4d, kind, 0) + body


def pptp_session(matrix, name, network):
    """As far as both sides have told their call ids."""
    talk = matrix.talk(f"pptp {name}", TCP, client_address(4, network), SERVER, 6006, 1723)
    talk.tcp_open()
    talk.tcp_client(ACK | PSH, pptp_message(1, struct.pack("!HHIIHH", 256, 0, 1, 1, 0, 0) + bytes(128)))
    talk.tcp_server(ACK | PSH, pptp_message(2, struct.pack("!HBBIIHH", 256, 1, 0, 1, 1, 0, 0) + bytes(128)))
    heard = talk.tcp_client(ACK | PSH, pptp_message(7, struct.pack("!HHIIIIHHHH", 111, 1, 300, 9999, 3, 3, 64,
                                                                   0, 0, 0) + bytes(128)))[3]
    call = struct.unpack_from("!H", heard, 12)[0]       # what it was translated to
    talk.tcp_server(ACK | PSH, pptp_message(8, struct.pack("!HHBBHIHHI", 222, call, 1, 0, 0, 9999, 64, 0, 0)))


def helper_sessions(matrix):
    """Sessions whose helpers expect something; [(control connection, address, port, by the server), ...]."""
    wanted = []
    for family in (4, 6):
        for kind in ("none", "source", "both"):
            name, (network, target) = f"v{family} {kind}", KINDS[kind]
            for active in (True, False):
                talk, heard = ftp_session(matrix, f"{name} {active}", family, network, target, active)
                wanted.append((talk, *port_in(heard, family, talk.dst), active))
            tftp_session(matrix, name, family, network, target)
        for kind in ("none", "source"):
            name, network = f"v{family} {kind}", KINDS[kind][0]
            sane_session(matrix, name, family, network)
            amanda_session(matrix, name, family, network)
            sip_session(matrix, name, family, network)
            if family == 4:
                irc_session(matrix, name, network)
                pptp_session(matrix, name, network)
    return wanted


def register(matrix, name, family, network):
    """A telephone registers; from then on calls are expected.  The address that the server knows."""
    talk = matrix.talk(f"register {name}", UDP, client_address(family, network), target_address(family, None),
                       5060, 5060)
    host = talk.src if family == 4 else f"[{talk.src}]"

    def message(first, via, sender, contact, tag):
        return (f"{first}\r\nVia: {via}\r\nFrom: {sender}\r\nTo: <sip:me@example.org>{tag}\r\n"
                f"Call-ID: {name}@x\r\nCSeq: 1 REGISTER\r\nContact: {contact}\r\n"
                "Content-Length: 0\r\n\r\n").encode()
    asked = message("REGISTER sip:example.org SIP/2.0", f"SIP/2.0/UDP {host}:5060;branch=z9hG4bK1",
                    f"<sip:me@{host}>;tag=1", f"<sip:me@{host}:5060>;expires=600", "")
    seen = talk.ask(lambda s, d, a, b: udp(s, d, a, b, asked)).data[8:].decode()
    heard = {field: re.search(rf"{field}: (.*)\r\n", seen).group(1) for field in ("Via", "From", "Contact")}
    answer = message("SIP/2.0 200 OK", heard["Via"], heard["From"], heard["Contact"], ";tag=2")
    talk.answer(lambda s, d, a, b: udp(s, d, a, b, answer))
    return talk, re.search(r"@\[?([0-9a-f.:]+?)\]?:5060", heard["Contact"]).group(1)


def test_registrations(matrix):
    """Calls come in after the takeover, although no event tells that they are expected."""
    telephones = [register(matrix, f"v{family} {network}", family, network)
                  for family in (4, 6) for network in (1, 2)]
    expected = matrix.kernel1.expects()
    # permanent, active, and for as long as the registration lasts
    assert len(expected) == len(telephones) and {e["flags"] for e in expected} == {1}

    def replicated():
        takeover(matrix.fw2, "commit")
        return not expect_differences(expected, matrix.kernel2.expects())
    wait_for(replicated, 20, "the registrations to be active on fw2", 0.1)
    assert all(e["timeout"] > 500 for e in matrix.kernel2.expects())
    matrix.take_over()
    matrix.fail_over()
    for telephone, address in telephones:
        call = Talk(matrix.server, matrix.client, UDP, peer_of(telephone), address, 5070, 5060)
        seen = call.ask(lambda s, d, a, b: udp(s, d, a, b, b"OPTIONS sip:me SIP/2.0\r\n\r\n"))
        assert (seen.dst, seen.b) == (telephone.src, 5060)
        call.answer(lambda s, d, a, b: udp(s, d, a, b, b"SIP/2.0 200 OK\r\n\r\n"))
    assert len([f for f in matrix.kernel2.flows() if "master" in f]) == len(telephones)


@pytest.mark.smoke
def test_helpers(matrix):
    """What helpers expect, and the sequence numbers that they adjust; used after the takeover."""
    wanted = helper_sessions(matrix)
    before, after = matrix.take_over()
    expected = {e["help_name"] for e in before[1]}
    assert expected >= {"ftp", "tftp", "sane", "amanda", "sip", "irc", "pptp"}
    matrix.assert_equal(before, after)

    matrix.fail_over()
    for control, address, port, by_server in wanted:
        go_on(control, both=True)
        if by_server:
            data = Talk(matrix.server, matrix.client, TCP, peer_of(control), address, 20, port)
            target = (control.src, 10001)
        else:
            data = Talk(matrix.client, matrix.server, TCP, control.src, address, 6020, port)
            target = (peer_of(control), 10002)
        data.tcp_open()
        assert (data.asked.dst, data.asked.b) == target, f"{data} arrived at {data.asked}"
    related = [f for f in matrix.kernel2.flows() if "master" in f]
    assert len(related) == len(wanted) and all(f["status"] & EXPECTED for f in related)
    assert matrix.fw2.drops() == {"invalid": 0, "unknown": 0}


