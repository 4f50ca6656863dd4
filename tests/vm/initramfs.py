"""What a guest boots into: busybox, our own build with the shared libraries that it wants, and the kernel's modules, all in memory."""
import gzip
import lzma
import os
import pathlib
import re
import shutil
import subprocess

# The disk's, the file system's. What the kernel has built in is not a module and not missed.
MODULES = ["virtio_pci", "virtio_blk", "nvme", "fuse", "ext4", "virtio_rng"]

INIT = """#!/bin/sh
export PATH=/stp/tools:/stp/fuse:/bin HOME=/
mount -t devtmpfs none /dev; mount -t proc none /proc; mount -t sysfs none /sys
mkdir -p /dev/shm /dev/pts; mount -t tmpfs none /dev/shm; mount -t tmpfs none /tmp; mount -t tmpfs none /run
for module in $(cat /modules.list); do insmod "$module" || echo "cannot load $module"; done
hostname "$stp_host"
ip link set lo up
# Disks are known by their serial numbers; the kernel names them in the order in which it finds them.
disk_of() {
  for disk in /sys/block/*; do
    case $(cat $disk/serial $disk/device/serial 2>/dev/null) in "$1"*) echo /dev/${disk##*/} ;; esac
  done
}
export STP_STG=$(disk_of shared)
data=$(disk_of data)
[ -z "$data" ] || { mkdir -p /data; mount -t ext4 "$data" /data; }
exec /agent
"""

# The other end of guest.py.
AGENT = """#!/bin/sh
exec 3<>/dev/ttyS1
stty -F /dev/ttyS1 raw -echo
echo READY >&3
answered=none
while read -r number length words <&3; do
  [ "$length" = "$((${#number} + ${#words}))" ] || continue
  if [ "$number" != "$answered" ]; then
    echo "$words" | base64 -d >/tmp/script
    sh /tmp/script >/tmp/output 2>&1 </dev/null 3>&-
    status=$?
    answered=$number
  fi
  echo "$number $status $(base64 -w 0 </tmp/output)" >&3
done
"""


class NotToBeHad(Exception):
    """Why there can be no guests here."""


def kernel_image():
    """(path, version) of the newest cloud kernel that is installed."""
    found = [(path, path.name.removeprefix("vmlinuz-")) for path in pathlib.Path("/boot").glob("vmlinuz-*-cloud-*")]
    found = [(path, version) for path, version in found if (pathlib.Path("/lib/modules") / version / "modules.dep").exists()]
    if not found:
        raise NotToBeHad("no cloud kernel in /boot with its modules (Debian: linux-image-cloud-amd64)")
    path, version = max(found, key=lambda pair: [int(number) for number in re.findall(r"\d+", pair[1])])
    if not os.access(path, os.R_OK):
        raise NotToBeHad(f"{path} may be read by root only")
    return path, version


class Initramfs:
    def __init__(self, root: pathlib.Path, build_dir: pathlib.Path):
        self._root = root
        self._build_dir = build_dir
        for directory in ["bin", "dev", "proc", "sys", "tmp", "run", "etc", "mnt"]:
            (root / directory).mkdir(parents=True)

    def add_text(self, path, text, mode=0o755):
        target = self._inside(path)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)

    def add_program(self, source, path):
        """A program, or a library that is loaded by hand, with all libraries that it is linked to."""
        shutil.copy2(source, self._inside(path))
        listed = subprocess.run(["ldd", source], capture_output=True, text=True, check=False)  # fails on a static one
        for library in re.findall(r"(?:=> |^\s+)(/\S+) \(", listed.stdout, re.MULTILINE):
            # Those of the build are found where they lie relative to the program.
            library = pathlib.Path(library)
            ours = library.is_relative_to(self._build_dir)
            target = self._inside(f"stp/{library.relative_to(self._build_dir)}" if ours else library)
            if not target.exists():
                shutil.copy2(library, target)
        if "not found" in listed.stdout:
            raise NotToBeHad(f"{source}: " + "; ".join(line.strip() for line in listed.stdout.splitlines() if "not found" in line))

    def add_busybox(self):
        busybox = shutil.which("busybox")
        if busybox is None:
            raise NotToBeHad("busybox is not installed")
        self.add_program(busybox, "bin/busybox")
        for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
            if applet != "busybox":
                (self._root / "bin" / applet).symlink_to("busybox")

    def add_modules(self, version):
        """MODULES with what they need, in the order in which they can be loaded."""
        base = pathlib.Path("/lib/modules") / version
        needs = {}
        for line in (base / "modules.dep").read_text(encoding="utf-8").splitlines():
            path, _, others = line.partition(":")
            needs[path] = others.split()
        by_name = {pathlib.Path(path).name.split(".")[0].replace("-", "_"): path for path in needs}
        order = []
        for name in MODULES:
            if name in by_name:
                # modules.dep lists what a module needs from the near to the far.
                order += [path for path in [*reversed(needs[by_name[name]]), by_name[name]] if path not in order]
        for path in order:
            self._inside(f"modules/{module_name(path)}").write_bytes(module_bytes(base / path))
        self.add_text("modules.list", "".join(f"/modules/{module_name(path)}\n" for path in order), 0o644)

    def pack(self, target: pathlib.Path):
        """As a compressed cpio archive in the kernel's format."""
        with gzip.open(target, "wb", compresslevel=1) as out:
            for number, path in enumerate([self._root, *sorted(self._root.rglob("*"))], start=1):
                name = "." if path == self._root else str(path.relative_to(self._root))
                content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
                write_entry(out, name, number, path.lstat().st_mode, content)
            write_entry(out, "TRAILER!!!", 0, 0, b"")

    def _inside(self, path):
        target = self._root / str(path).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def module_name(path):
    return pathlib.Path(path).name.split(".")[0] + ".ko"


def module_bytes(path):
    if path.suffix == ".ko":
        return path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    raise NotToBeHad(f"{path}: no way to unpack this kind of module here")


def write_entry(out, name, number, mode, content):
    # Magic, inode, mode, user, group, links, time, size, device of the file (2), of a device file (2), length of the name, checksum.
    fields = [number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    out.write(head + b"\0" * (-len(head) % 4) + content + b"\0" * (-len(content) % 4))


def build(build_dir: pathlib.Path, scratch: pathlib.Path, version, programs=()):
    """The initramfs of this build for this kernel; `programs` are others to take along where they are installed."""
    initramfs = Initramfs(scratch / "initramfs", build_dir)
    initramfs.add_busybox()
    for tool in ["tools/stp", "tools/stpd", "tools/stp-ftp", "tools/stp-ftpd", "fuse/stp-fuse", "hostlib/libstp-preload.so"]:
        if not (build_dir / tool).exists():
            raise NotToBeHad(f"{build_dir / tool} was not built")
        initramfs.add_program(build_dir / tool, f"stp/{tool}")
    for program in programs:
        if path := shutil.which(program):
            initramfs.add_program(path, f"bin/{program}")
    initramfs.add_modules(version)
    initramfs.add_text("init", INIT)
    initramfs.add_text("agent", AGENT)
    initramfs.add_text("etc/passwd", "root:x:0:0:root:/:/bin/sh\n", 0o644)
    initramfs.add_text("etc/group", "root:x:0:\n", 0o644)
    initramfs.add_text("etc/hosts", "127.0.0.1 localhost\n", 0o644)
    image = scratch / "initramfs.gz"
    initramfs.pack(image)
    return image
