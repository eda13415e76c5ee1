"""Hostile and honest addresses and URLs, for the tests of the guard.

The vectors of imgproxy's and smokescreen's tests, and the edges of every range in the guard's table.
"""

# Blocks of text read better than lists of quoted words, and some hostile URLs are longer than a line.
# ruff: noqa: E501, SIM905
# fmt: off

BLOCKED_ADDRESSES = """
0.0.0.0 0.0.0.1 0.255.255.255 10.0.0.0 10.0.0.1 10.255.255.255 100.64.0.0 100.64.0.1 100.100.100.200 100.127.255.255
127.0.0.0 127.0.0.1 127.0.0.53 127.255.255.255 168.63.129.16 169.254.0.0 169.254.0.1 169.254.169.253 169.254.169.254
169.254.170.2 169.254.255.255 172.16.0.0 172.16.0.1 172.17.0.1 172.31.255.255 192.0.0.0 192.0.0.8 192.0.0.9 192.0.0.10
192.0.0.170 192.0.0.192 192.0.0.255 192.0.2.0 192.0.2.1 192.0.2.255 192.31.196.1 192.52.193.1 192.88.99.0 192.88.99.1
192.88.99.255 192.168.0.0 192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.0 198.18.0.1 198.19.255.255 198.51.100.0
198.51.100.255 203.0.113.0 203.0.113.255 224.0.0.0 224.0.0.1 239.255.255.250 239.255.255.255 240.0.0.0 240.0.0.1
255.255.255.254 255.255.255.255
:: ::1 ::2 ::127.0.0.1 ::10.0.0.1 ::8.8.8.8 ::169.254.169.254 ::ffff:255.255.255.255
::ffff:0.0.0.0 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:192.168.1.1 ::ffff:8.8.8.8 ::ffff:7f00:1
::ffff:0:127.0.0.1 ::ffff:0:10.0.0.1
64:ff9b:: 64:ff9b::7f00:1 64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::808:808 64:ff9b::ffff:ffff
64:ff9b:1:: 64:ff9b:1::1 64:ff9b:1::7f00:1 64:ff9b:1:ffff:ffff:ffff:ffff:ffff 64:ff9b:1:a00:0:100::
100:: 100::1 100::ffff:ffff:ffff:ffff 100:0:0:1:: 100:0:0:1:ffff:ffff:ffff:ffff
2001:: 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:0:7f00:1:: 2001:0:53aa:64c:0:7f80:80ff:fffe
2001:1::1 2001:2:: 2001:2:0:ffff:ffff:ffff:ffff:ffff 2001:4:112::1 2001:10:: 2001:20::1 2001:2f:: 2001:30::1
2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8:: 2001:db8::1 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff
2002:: 2002:7f00:1:: 2002:a00:1:: 2002:a9fe:a9fe:: 2002:c0a8:101::1 2002:808:808:: 2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff
2620:4f:8000:: 2620:4f:8000::1 3fff:: 3fff::1 3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff 5f00:: 5f00::1
5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff fc00:: fc00::1 fd00::1 fd00:ec2::254 fd20:ce::254
fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
fe80:: fe80::1 fe80::a9fe:a9fe fe80::5efe:7f00:1 febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff fec0:: fec0::1
feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ff00:: ff02::1 ff0e::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
2606:4700::5efe:7f00:1 2606:4700::200:5efe:7f00:1 2606:4700::5efe:10.0.0.1 2a00:1450:4001:80b:0:5efe:808:808
""".split()
PUBLIC_ADDRESSES = """
1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15
168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.1.255 192.0.3.0
192.31.195.255 192.31.197.0 192.52.192.255 192.52.194.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0
192.175.47.255 192.175.49.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0
223.255.255.255 64:ff9b::1:0:0 64:ff9b:2:: 64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff ff:: 100:0:0:2:: 2000::1 2001:200::
2001:db7:ffff:ffff:ffff:ffff:ffff:ffff 2001:db9:: 2001:4860:4860::8888 2003:: 2606:4700:4700::1111 2620:4f:7fff::
2620:4f:8001:: 2a00:1450:4001:80b::200e 3ffe:ffff:: 3fff:1000:: 5eff:ffff:: 5f01:: fbff:ffff:: fe00:: 2606:4700::5eff:1:1
2606:4700::5efd:7f00:1
""".split()
REFUSED_AS_PRIVATE = """
http://127.0.0.1 http://127.0.0.1/ http://localhost http://localhost:80/ http://LOCALHOST/ http://localhost./
http://a.localhost/ http://[::1] http://[::]/ http://0.0.0.0/ http://10.0.0.1/ http://[::ffff:127.0.0.1]/
http://[::ffff:7f00:1]/ http://[0:0:0:0:0:ffff:127.0.0.1]/ http://[::127.0.0.1]/ http://[64:ff9b::7f00:1]/
http://[64:ff9b:1::]/ http://[2002:7f00:1::]/ http://169.254.169.254/latest/meta-data/ http://[fd00:ec2::254]/
http://100.100.100.200/ http://168.63.129.16/ http://metadata.google.internal/computeMetadata/v1/
http://metadata.google.internal./ http://METADATA.google.INTERNAL/ http://metadata/ http://redis/ http://redis:80/
http://kubernetes.default.svc.cluster.local/ http://printer.local/ http://router.lan/ http://nas.home.arpa/
http://db.localdomain/ http://pictures.example.com:22/ http://pictures.example.com:25/ http://pictures.example.com:6379/
http://pictures.example.com:9200/ http://pictures.example.com:0/ http://pictures.example.com:8080/
https://pictures.example.com:8443/ http://8.8.8.8:53/ http://[2606:4700:4700::1111]:53/ http://192.168.0.1:80/
http://255.255.255.255/ http://224.0.0.1/ http://[ff02::1]/ http://[fe80::1]/ http://[fec0::1]/ http://[5f00::1]/
""".split()
IPV4_SPELLINGS = """
2130706433 0x7f000001 0X7F000001 017700000001 127.1 127.0.1 0 0.0 00 0x0 0x7f.1 0x7f.0.0.1 0177.0.0.1 0177.1
0127.0.0.1 127.0.0.01 127.0.0.1. 127.0.0.1.. 127.0.0.0x1 1.2.3 1.2.3.4.5 256.1.1.1 1.1.1.256 08.8.8.8 8.8.8.8.
999999999999 4294967296 134744072 0x08080808 010.8.8.8 １２７.0.0.1 127。0。0。1 127．0．0．1 ①②⑦.⓪.⓪.① ⑧.⑧.⑧.⑧
１.1.1.1 1.1.1.1｡ a.b.127 a.0x7f 127.0.0.-1 +127.0.0.1 127,0,0,1 ²130706433
""".split()
SCHEMES = (
    "file ftp ftps gopher data javascript ws wss unix ldap dict jar netdoc sftp tftp telnet ssh smb about blob view-source"
    " mailto tel chrome php phar expect php://filter httpx hhttp shttp http+unix httpsx h ttp ht%74p"
).split()
CREDENTIALS = """
user:pw@pictures.example.com user@pictures.example.com :pw@pictures.example.com @pictures.example.com :@pictures.example.com
pictures.example.com@127.0.0.1 pictures.example.com:80@127.0.0.1 a@b@pictures.example.com a:b:c@pictures.example.com
user%40pictures.example.com user%40pictures.example.com@127.0.0.1 %40pictures.example.com 127.0.0.1%40pictures.example.com
127.0.0.1:80%40pictures.example.com ＠pictures.example.com user＠pictures.example.com
""".split()
HOSTS = """
. .. .com example..com .example.com -example.com example-.com example.-com exam!ple.com exam$ple.com exam&ple.com
exam'ple.com exam(ple.com exam*ple.com *.example.com exam+ple.com exam,ple.com exam;ple.com exam=ple.com exam~ple.com
exam%70le.com example%2ecom example.com%2f example.com%00 example.com%0d%0aX: example.com%23 example.com%3f %6c%6f
exam|ple.com exam^ple.com exam`ple.com exam{ple.com} exam"ple.com exam<ple>.com ex[ample].com [example.com] [127.0.0.1]
[::1 ::1] ::1 [::1]] [[::1]] [::1%eth0] [::1%25eth0] [fe80::1%25lo] [::g] [1:2] [:::] [::1].example.com [::1]a a[::1]
[v1.x] [] [1::2::3] [12345::] [::127.0.0.256] [::0127.0.0.1] example.com:+80 example.com:-80 example.com:８０
example.com:0x50 example.com:80a example.com:a80 example.com:80:80 example.com: example.com:: example.com:65536
example.com:99999 example.com:100000 example.com:8e1 example.com:² :80 : example.com:80#@127.0.0.1 example.com#.evil
example.com#@evil example.com# example／com example＃com example？com example：80.com exa℀mple.com
xn--.com:1:1 example。。com
""".split()
SHAPES = [
    "", " ", "/", "//", "//example.com/", "///example.com", "http", "http:", "http:/", "http://", "http:///", "http:///host",
    "http:////host", "http:example.com", "http:/example.com", "http:\\\\example.com", "http:/\\example.com", "\\\\example.com",
    "http://?", "http://#", "http://?x=1", "http://:80", "https://", "example.com", "example.com/a.png", "www.example.com",
    "://example.com", ":http://example.com", "http//example.com", "http;//example.com", "http:://example.com",
    " http://example.com", "http://example.com ", "\thttp://example.com", "http://example.com\t", "h\tttp://example.com",
    "http:\t//example.com", "http://exa\tmple.com", "http://exa\nmple.com", "http://exa\rmple.com", "http://example.com/\r\nX: y",
    "http://example.com/a b", "http://example.com/a\tb", "http://example.com/\x00", "http://example.com/\x7f", "http://example.com/\x1b[0m",
    "http://example.com/\x80", "http://example.com/\x85", "http://example.com/\u2028", "http://example.com/\u2029", "http://example.com/\u00a0",
    "http://example.com/\u200b", "http://example.com/\u202e", "http://example.com/\ufeff", "\ufeffhttp://example.com/", "http://example.com/\ud800",
    "http://exam\u200bple.com", "http://exam\u00adple.com", "http://exam\u2060ple.com", "http://exam\u202eple.com", "http://exam\u3000ple.com",
    "http://host\\@evil.com", "http://host\\.evil.com", "http://host.com\\evil", "http://example.com/\\evil", "http://example.com%5c@evil/",
    "http://example.com/%00", "http://example.com/a%00.png", "http://example.com/?x=%00", "http://example.com%00.evil.com/",
    "http://" + "a" * 64 + ".com/", "http://" + "a." * 127 + "com/", "http://example.com/" + "a" * 10_000, "http://" + "a" * 10_000,
    "http://example.com/?" + "a" * 10_000, "http://example.com/" + "é" * 9000, "http://[" + ":" * 9000 + "]/",
    "http://http://example.com/", "http://https://example.com", "https:https://example.com", "url:http://example.com", "http\u200b://example.com",
    "ｈｔｔｐ://example.com", "http：//example.com", "http:／／example.com", "http://example.com:80\\@127.0.0.1/", "http://1.1.1.1 &@2.2.2.2# @3.3.3.3/",
    "http://foo@127.0.0.1:80@example.com/", "http://0\\.0.0.0/", "http://ⓛⓞⓒⓐⓛ ⓗⓞⓢⓣ/",
]  # fmt: skip
CORPUS = [
    *(f"http://{host}/" for host in IPV4_SPELLINGS),
    *(f"{scheme}://pictures.example.com/a.png" for scheme in SCHEMES),
    *(f"{scheme}:a.png" for scheme in SCHEMES[:12]),
    *(f"http://{authority}/a.png" for authority in CREDENTIALS),
    *(f"https://{host}/" for host in HOSTS),
    *SHAPES,
]
GOOD = """
http://example.com https://example.com/ http://example.com:80/a.png https://example.com:443/a.png HTTP://EXAMPLE.COM/
https://a.b.c.example.com/x/y.png?X-Amz-Signature=0a%2Bb&x=1 https://example.com./a.png http://example.com?x=1
https://1.1.1.1/ https://[2606:4700:4700::1111]/a https://bücher.example/ü.png?q=ü https://例え.テスト/ https://K.example/
https://example.com/a.png#part https://a_b.example.com/ https://xn--bcher-kva.example/ http://example.com/?next=http://127.0.0.1/
http://example.com/@127.0.0.1/ http://example.com/a:b@c https://faß.example/ https://pay.аpple.example/ https://ex∕ample.com/ http://example.com:0080/
http://3com.com/ http://0x7f.example.com/ http://example.com?@127.0.0.1/
""".split()
