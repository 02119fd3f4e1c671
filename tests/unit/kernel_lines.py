"""Lines that the NVIDIA driver and Linux have written into kernel logs, and what each tells.

They are from bug reports, from the tests of other monitors, and from the driver's own comments.
PIDs, names of processes, serial numbers and UUIDs are replaced; the forms are as they were.
"""

from health.kernel_log import DriverLoaded, Event, GpuLost, GpuReset, LoggedXid, SXid

A = "0000:01:00.0"
WARP = "Graphics SM Warp Exception on (GPC 7, TPC 7, SM 0): Illegal Instruction Parameter"
TIMEOUT = "Timeout after 45s of waiting for RPC response from GPU6 GSP! Expected function 76"
RLW_SRC = "RLW_SRC_TRACK Nonfatal XC1 i0 Link 03 (0x040868e2 0x00000008 0x00000000)"
RLW_RX = "RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x0409a0c2 0x00000008 0x00000001 0x00000000)"
SAW = "SAW_MVB Nonfatal XC0 i0 Link 0 (0x00000001 0x00000008 0x00000000 0x00000000)"
BER = "NETIR_BER_EVENT Nonfatal XC0 i0 Link 03 (0x00086226 0x00000001 0x00000000)"
NETIR = "NETIR Fatal XC0 i0 Link -1 (0x000fe406 0x00000000 0x00000000 0x00000000)"
EVENT_0 = "NETIR_LINK_EVT Fatal XC0 i0 Link 00 (0x025001c6 0x00000000 0x00000000)"
EVENT_1 = "NETIR_LINK_EVT  Fatal   XC0 i0 Link 01 (0x021425c6 0x00000000 0x00000000)"
EVENT_8 = "NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x004505c6 0x00000000 0x00000000)"
EVENT_OLD = "NETIR_LINK_EVT Fatal XC 1 i 2 Link 01 [0x0000000a]"
DOWN = "NETIR_LINK_DOWN Nonfatal XC1 i2 Link 17 (0xdeadbeef)"
TREX = "TREX_ERR Nonfatal XC 00 i 00 Link 02 (0x00000005)"
POWER = "NVLPW_CTRL Fatal XC0 i0 Link 05"
LINK_14 = "NVLink: fatal error detected on link 14(0x0, 0x0, 0x10000, 0x0, 0x0, 0x0, 0x0)"
RESET = "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"
REBOOT = "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"
SHORT = "GPU recovery action changed to 0x2 (Node Reboot Required)"
NONE = "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"
OFF = "GPU has fallen off the bus."
CONTAINED = "Contained: CE User Channel (0x9). RST: No, D-RST: No"
SEVEN = "0x10000000, 0x10000000, 0x00000000, 0x10000000, 0x00000000, 0x00000000, 0x00000000"

XIDS: list[tuple[str, LoggedXid]] = [
    # Before 2013 there was no "PCI:".
    (
        "NVRM: Xid (0000:03:00): 13, 0003 00000000 00008297 00001098 00000000 00000044",
        LoggedXid("0000:03:00.0", 13, detail="0003 00000000 00008297 00001098 00000000 00000044"),
    ),
    (
        "NVRM: Xid (0000:01:00): 16, Head 00000000 Count 00000007",
        LoggedXid(A, 16, detail="Head 00000000 Count 00000007"),
    ),
    ("NVRM: Xid (0000:01:00): 8, Channel 00000020", LoggedXid(A, 8, detail="Channel 00000020")),
    # Before driver 450 there was no process.
    (
        "NVRM: Xid (PCI:0000:01:00): 32, Channel ID 00000009 intr 00800000",
        LoggedXid(A, 32, detail="Channel ID 00000009 intr 00800000"),
    ),
    (
        "NVRM: Xid (PCI:0000:01:00): 31, Ch 00000003, engmask 00000101, intr 10000000",
        LoggedXid(A, 31, detail="Ch 00000003, engmask 00000101, intr 10000000"),
    ),
    (f"NVRM: Xid (PCI:0000:01:00): 79, {OFF}", LoggedXid(A, 79, detail=OFF)),
    ("NVRM: Xid (PCI:0000:3f:00): 46", LoggedXid("0000:3f:00.0", 46)),
    (
        "NVRM: Xid (PCI:0000:b9:00): 71, NVLink: fatal error detected on link 6",
        LoggedXid("0000:b9:00.0", 71, detail="NVLink: fatal error detected on link 6"),
    ),
    # With a process, known, unknown, or known in part.
    (
        f"NVRM: Xid (PCI:0000:cb:00): 13, pid='<unknown>', name=<unknown>, {WARP}",
        LoggedXid("0000:cb:00.0", 13, detail=WARP),
    ),
    (
        (
            "NVRM: Xid (PCI:0000:cb:00): 109, pid=1234, name=pt_main_thread, Ch 00000008, "
            "errorString CTX SWITCH TIMEOUT, Info 0x58005"
        ),
        LoggedXid(
            "0000:cb:00.0",
            109,
            pid=1234,
            name="pt_main_thread",
            detail="Ch 00000008, errorString CTX SWITCH TIMEOUT, Info 0x58005",
        ),
    ),
    (
        "NVRM: Xid (PCI:0000:00:1e): 31, pid=8, name=<unknown>, channel 0x00000004. MMU Fault",
        LoggedXid("0000:00:1e.0", 31, pid=8, detail="channel 0x00000004. MMU Fault"),
    ),
    (
        f"NVRM: Xid (PCI:0000:97:00): 119, pid=1234, name=nv-hostengine, {TIMEOUT}",
        LoggedXid("0000:97:00.0", 119, pid=1234, name="nv-hostengine", detail=TIMEOUT),
    ),
    (
        (
            "NVRM: Xid (PCI:0000:01:00): 95, pid=1234, Uncontained: LTC TAG (0x2,0x0). RST: Yes, "
            "D-RST: No"
        ),
        LoggedXid(A, 95, pid=1234, detail="Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No"),
    ),
    (
        "NVRM: Xid (PCI:0000:9b:00): 8, pid=1234, name=idle_timeout",
        LoggedXid("0000:9b:00.0", 8, pid=1234, name="idle_timeout"),
    ),
    (
        "NVRM: Xid (PCI:0000:B9:00): 74, pid=<unknown>, name=<unknown>, " + LINK_14,
        LoggedXid("0000:b9:00.0", 74, detail=LINK_14, link=14),
    ),
    (
        (
            "NVRM: Xid (PCI:0000:65:00): 74, pid=<n/a>, name=<unknown>, NVLink: fatal error "
            "detected on link 2"
        ),
        LoggedXid("0000:65:00.0", 74, detail="NVLink: fatal error detected on link 2", link=2),
    ),
    # On a GPU in MIG mode.
    (
        f"NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=1234, {CONTAINED}",
        LoggedXid(A, 94, gi=5, pid=1234, detail=CONTAINED),
    ),
    (
        "NVRM: Xid (PCI:0000:3b:00 GPU-I:01 GPU-CI:02): 13, pid=9, name=python, Graphics Exception",
        LoggedXid("0000:3b:00.0", 13, 1, 2, 9, "python", "Graphics Exception"),
    ),
    # The Xids 144 to 150 with unit, severity, link and registers.
    (
        f"NVRM: Xid (PCI:0000:01:00): 144, {SAW}",
        LoggedXid(A, 144, detail=SAW, fatal=False, unit="SAW_MVB", sub_code=0, link=0),
    ),
    (
        f"NVRM: Xid (PCI:0018:01:00): 145, pid=1234, name=ray::WorkerDict, {RLW_RX}",
        LoggedXid(
            "0018:01:00.0",
            145,
            pid=1234,
            name="ray::WorkerDict",
            detail=RLW_RX,
            fatal=False,
            unit="RLW_RXPIPE",
            sub_code=0,
            link=13,
        ),
    ),
    (
        f"NVRM: Xid (PCI:0019:01:00): 145, {RLW_SRC}",
        LoggedXid(
            "0019:01:00.0",
            145,
            detail=RLW_SRC,
            fatal=False,
            unit="RLW_SRC_TRACK",
            sub_code=0,
            link=3,
        ),
    ),
    (
        f"NVRM: Xid (PCI:0000:00:1e): 147, {TREX}",
        LoggedXid(
            "0000:00:1e.0", 147, detail=TREX, fatal=False, unit="TREX_ERR", sub_code=0, link=2
        ),
    ),
    (
        f"NVRM: Xid (PCI:0000:00:1e): 148, {POWER}",
        LoggedXid("0000:00:1e.0", 148, detail=POWER, fatal=True, unit="NVLPW_CTRL", link=5),
    ),
    (
        f"NVRM: Xid (PCI:0018:01:00): 149, {BER}",
        LoggedXid(
            "0018:01:00.0", 149, detail=BER, fatal=False, unit="NETIR_BER_EVENT", sub_code=0, link=3
        ),
    ),
    (
        f"NVRM: Xid (PCI:0019:01:00): 149, {NETIR}",
        LoggedXid("0019:01:00.0", 149, detail=NETIR, fatal=True, unit="NETIR", sub_code=0, link=-1),
    ),
    (
        f"NVRM: Xid (PCI:0000:00:00): 149, {EVENT_0}",
        LoggedXid(
            "0000:00:00.0",
            149,
            detail=EVENT_0,
            fatal=True,
            unit="NETIR_LINK_EVT",
            sub_code=37,
            link=0,
        ),
    ),
    (
        f"NVRM: Xid (PCI:0009:01:00): 149, {EVENT_1}",
        LoggedXid(
            "0009:01:00.0",
            149,
            detail=EVENT_1,
            fatal=True,
            unit="NETIR_LINK_EVT",
            sub_code=33,
            link=1,
        ),
    ),
    (
        f"NVRM: Xid (PCI:0008:01:00): 149, {EVENT_8}",
        LoggedXid(
            "0008:01:00.0",
            149,
            detail=EVENT_8,
            fatal=True,
            unit="NETIR_LINK_EVT",
            sub_code=4,
            link=8,
        ),
    ),
    (
        f"NVRM: Xid (PCI:0000:00:1e): 149, {EVENT_OLD}",
        LoggedXid(
            "0000:00:1e.0",
            149,
            detail=EVENT_OLD,
            fatal=True,
            unit="NETIR_LINK_EVT",
            sub_code=0,
            link=1,
        ),
    ),
    (
        f"NVRM: Xid (PCI:0000:00:1e): 149, {DOWN}",
        LoggedXid(
            "0000:00:1e.0",
            149,
            detail=DOWN,
            fatal=False,
            unit="NETIR_LINK_DOWN",
            sub_code=42,
            link=17,
        ),
    ),
    (
        "NVRM: Xid (PCI:0000:00:1e): 145, driver-specific detail",
        LoggedXid("0000:00:1e.0", 145, detail="driver-specific detail"),
    ),
    # What follows from another Xid, and what the driver asks for.
    (
        (
            "NVRM: Xid (PCI:0000:dc:00): 45, pid=1234, name=python3, Ch 00000001 caused by "
            "previous Xid 149"
        ),
        LoggedXid(
            "0000:dc:00.0",
            45,
            pid=1234,
            name="python3",
            detail="Ch 00000001 caused by previous Xid 149",
        ),
    ),
    (
        f"NVRM: Xid (PCI:0008:01:00): 154, {RESET}",
        LoggedXid("0008:01:00.0", 154, detail=RESET, action=1),
    ),
    (f"NVRM: Xid (PCI:0000:01:00): 154, {REBOOT}", LoggedXid(A, 154, detail=REBOOT, action=2)),
    (f"NVRM: Xid (PCI:0000:01:00): 154, {SHORT}", LoggedXid(A, 154, detail=SHORT, action=2)),
    (f"NVRM: Xid (PCI:0000:01:00): 154, {NONE}", LoggedXid(A, 154, detail=NONE, action=0)),
]

OTHERS: list[tuple[str, Event]] = [
    (
        (
            "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 12028, Non-fatal, Link 32 egress "
            "non-posted PRIV error (First)"
        ),
        SXid(
            "0000:05:00.0",
            12028,
            fatal=False,
            link=32,
            detail="Link 32 egress non-posted PRIV error (First)",
        ),
    ),
    (
        "nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM Fault Up",
        SXid("0000:06:00.0", 20034, fatal=True, link=48, detail="Link 48 LTSSM Fault Up"),
    ),
    (
        (
            "nvidia-nvswitch3: SXid (PCI:0000:04:00.0): 22013, Non-fatal, Link 44 Minion Link "
            "DLREQ interrupt"
        ),
        SXid(
            "0000:04:00.0",
            22013,
            fatal=False,
            link=44,
            detail="Link 44 Minion Link DLREQ interrupt",
        ),
    ),
    (
        (
            "nvidia-nvswitch0: SXid (PCI:0000:c3:00.0): 24007, Fatal, Link 30 sourcetrack timeout "
            "error"
        ),
        SXid(
            "0000:c3:00.0", 24007, fatal=True, link=30, detail="Link 30 sourcetrack timeout error"
        ),
    ),
    (
        "nvidia-nvswitch0: SXid (PCI:0000:00:00.0): 11001, Fatal, ingress invalid command",
        SXid("0000:00:00.0", 11001, fatal=True, link=None, detail="ingress invalid command"),
    ),
    ("NVRM: GPU 0000:91:00.0: GPU has fallen off the bus.", GpuLost("0000:91:00.0")),
    ("NVRM: GPU at 0000:01:00.0 has fallen off the bus.", GpuLost(A)),
    (
        (
            "NVRM: The NVIDIA GPU 0000:0e:00.0 (PCI ID: 10de:1b06) installed in this system has "
            "fallen off the bus and is not responding to commands."
        ),
        GpuLost("0000:0e:00.0"),
    ),
    (
        (
            r"NVRM: The NVIDIA GPU 0000:0e:00.0 (PCI ID: 10de:1b06)\x0aNVRM: installed in this "
            r"system has\x0aNVRM: fallen off the bus and is not responding to commands."
        ),
        GpuLost("0000:0e:00.0"),
    ),
    (
        (
            "NVRM: GPU5 nvCheckOkFailedNoLog: Check failed: GPU lost from the bus "
            "[NV_ERR_GPU_IS_LOST] (0x0000000F)"
        ),
        GpuLost(""),
    ),
    ("nvidia 0000:01:00.0: reset done", GpuReset(A)),
    ("vfio-pci 0000:01:00.0: reset done", GpuReset(A)),
    (
        (
            "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  570.195.03  Release Build  "
            "(dvs-builder@host)  Sat Sep 20 00:47:16 UTC 2025"
        ),
        DriverLoaded("570.195.03"),
    ),
    ("NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.105.08", DriverLoaded("580.105.08")),
    (
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  295.40  Thu Apr  5 21:37:00 PDT 2012",
        DriverLoaded("295.40"),
    ),
    (
        "NVRM: loading NVIDIA UNIX x86 Kernel Module  1.0-9755  Mon Feb 26 23:21:15 PST 2007",
        DriverLoaded("1.0-9755"),
    ),
]

NOTHING: list[str] = [
    # Other lines of the driver, and the other two lines of an SXid.
    "NVRM: GPU at PCI:0000:91:00: GPU-00000000-0000-0000-0000-000000000000",
    "NVRM: GPU Board Serial Number: 0000000000000",
    "NVRM: GPU 0000:91:00.0: GPU serial number is 0000000000000.",
    "NVRM: GPU5 _issueRpcAndWait: rpcSendMessage failed with status 0x0000000f for fn 78!",
    "NVRM: GPU 0000:9a:00.0: RmInitAdapter failed! (0x22:0x40:894)",
    (
        r"NVRM: The NVIDIA GPU 0000:01:00.0 (PCI ID: 10de:0fff)\x0aNVRM: installed in this system "
        "is not supported by the NVIDIA 580.105.08 driver release."
    ),
    f"nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 20034, Data {{{SEVEN}}}",
    (
        "nvidia-nvswitch2: SXid (PCI:0000:07:00.0): 20034, Severity 1 Engine instance 60 "
        "Sub-engine instance 00"
    ),
    "nvidia 0000:01:00.0: resetting",
    "nvme 0000:01:00.0: reset done",
    # Malformed ones.
    "NVRM: Xid : 32, pid=1234",
    "NVRM: Xid (PCI:0000:66:00): abc, pid=1234",
    "NVRM: Xid (PCI:0000:66:00): 0, x",
    "NVRM: Xid (PCI:0000:65:00)",
    # A process that is called as the driver's lines begin has written no such line.
    "NVRM: Xid (PCI:[1234]: segfault at 0 ip 0000000000401136 sp 00007ffd error 4 in a[401000]",
    "traps: NVRM: Xid (PCI:0000:01:00): 79, x trap invalid opcode ip:401136 sp:7ffd error:0 in a",
    "oom-kill: task=NVRM: Xid (PCI:0000:01:00): 79, pid=1234, uid=1000",
    "",
]
