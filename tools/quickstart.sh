#!/usr/bin/env bash
# Builds STP and does its main job once: two hosts that share nothing but a file on a disk, and a real file moved between
# them, both ways.
#
#   tools/quickstart.sh [FILE]         FILE: what to move (default: 256 MiB made from /dev/urandom)
#   tools/quickstart.sh --no-install   takes the machine as it is (else what is missing is installed, asking for root by sudo)
#
# Leaves nothing behind but the build in build/. Exit status: 0 the file came back unaltered, 1 not, 2 usage.
set -euo pipefail
cd "$(dirname "$0")/.."

file=
install=yes
for argument in "$@"; do
  case $argument in
    --no-install) install=no ;;
    -*) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    *) file=$(realpath -- "$argument") ;;
  esac
done
unset STP_STG STP_HOST STP_AGENT STP_IO STP_DEBUG STP_FAULTS

say() { printf '\n\033[1m%s\033[0m\n' "$*" | { if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi; }; }
die() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }
now_ms() { date +%s%3N; }

work=
daemon=
client=
clean_up() {
  trap - EXIT INT TERM
  for process in $client $daemon; do kill "$process" 2>/dev/null || true; done
  for process in $client $daemon; do wait "$process" 2>/dev/null || true; done
  if [ -n "$work" ]; then rm -rf -- "$work"; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say '1. Build (minutes, the first time)'
if [ $install = yes ]; then tools/install-dependencies.sh; fi
# As tests/run.sh does, which goes on with what was built here.
if [ ! -f build/build.ninja ]; then meson setup build -Ddebug=false -Dunity=on -Dunity_size=8 >build.log 2>&1 || { tail -n 20 build.log; die 'meson setup failed'; }; fi
rm -f build.log
programs=(stp stp-ftp stp-ftpd)
build() { ninja -C build "${programs[@]/#/tools/}" 2>&1; }
if [ -t 1 ]; then build; else build | tail -n 1; fi  # progress on a terminal only
for program in "${programs[@]}"; do [ -x "build/tools/$program" ] || die "build/tools/$program was not built"; done
PATH=$PWD/build/tools:$PATH

# The storage wants a directory where O_DIRECT works: not every file system has it.
medium=mapped
for directory in "$PWD/build" "${TMPDIR:-/tmp}" /var/tmp; do
  work=$(mktemp -d "$directory/quickstart.XXXXXX")
  if dd if=/dev/zero of="$work/probe" bs=4096 count=1 oflag=direct status=none 2>/dev/null; then
    medium=direct
    rm -f "$work/probe"
    break
  fi
  rm -rf -- "$work"
done
[ $medium = direct ] || { work=$(mktemp -d "${TMPDIR:-/tmp}/quickstart.XXXXXX"); echo 'O_DIRECT works nowhere here: the storage will be mapped'; }
free_mib=$(df --output=avail -m "$work" | tail -n 1)
[ "$free_mib" -ge 2500 ] || die "$work has only $free_mib MiB free; 2500 are needed (set TMPDIR to a roomier place)"

if [ -z "$file" ]; then
  file=$work/random-256M
  head -c $((256 << 20)) /dev/urandom >"$file"
fi
name=$(basename -- "$file")
size=$(stat -c %s -- "$file")
mkdir "$work/alpha" "$work/beta"

say '2. A data storage system: a preallocated file here; a shared LUN between real machines'
export STP_STG=$work/storage
(set -x; stp format "$STP_STG" --name demo --size 1G --hosts 4 --medium $medium) 2>&1

say '3. Host alpha serves files, host beta will move one: no network between them, only that storage'
stp-ftpd --root "$work/alpha" --host alpha >"$work/ftpd.log" 2>&1 &
daemon=$!
echo "+ stp-ftpd --root alpha/ --host alpha &"
began=$(now_ms)
until grep -q LISTEN <<<"$(stp sockets 2>/dev/null)"; do
  kill -0 $daemon 2>/dev/null || { cat "$work/ftpd.log" >&2; die 'stp-ftpd ended'; }
  [ $(($(now_ms) - began)) -lt 30000 ] || { cat "$work/ftpd.log" >&2; die 'stp-ftpd did not listen within 30 s'; }
  sleep 0.1
done
echo "alpha listens, $(($(now_ms) - began)) ms after its start"

say "4. $name, $((size >> 20)) MiB, from beta to alpha and back"
commands="put \"$file\" \"$name\"; get \"$name\" \"$work/beta/$name\""
echo "+ stp-ftp alpha --host beta -c 'put $name; get $name'"
stp-ftp alpha --host beta --json -c "$commands" >"$work/ftp.log" 2>&1 &
client=$!

# Meanwhile, from outside. What sockets there are is written to the storage within a second, so look until they are seen.
seen=
hosts=
while kill -0 $client 2>/dev/null; do
  now=$(stp sockets 2>/dev/null || true)
  if grep -q ESTAB <<<"$now"; then
    seen=$now  # the last look counts: it has seen the most
    [ -n "$hosts" ] || hosts=$(stp hosts)
  fi
  sleep 0.1
done
wait $client || { cat "$work/ftp.log" >&2; die 'stp-ftp failed'; }
client=
seconds=($(sed -n 's/.*"event":"done".*"seconds":\([0-9.]*\).*/\1/p' "$work/ftp.log"))
[ ${#seconds[@]} = 2 ] || { cat "$work/ftp.log" >&2; die 'stp-ftp did not report two files'; }

say '5. Seen from outside meanwhile, by anyone who can read the storage'
if [ -n "$seen" ]; then
  printf '+ stp hosts\n%s\n+ stp sockets\n%s\n' "$hosts" "$seen"
else
  echo 'the transfer was over before its sockets were written to the table; after it:'
  (set -x; stp hosts; stp sockets) 2>&1
fi

say '6. The same bytes?'
for copy in "$work/alpha/$name" "$work/beta/$name"; do
  cmp -- "$file" "$copy" || die "$copy differs from what was sent"
done
sha256sum -- "$file" "$work/alpha/$name" "$work/beta/$name" | sed "s#$work/##"
rate() { awk -v bytes="$size" -v s="$1" 'BEGIN { printf "%.0f MB/s (%.2f s)", bytes / 1e6 / (s > 0 ? s : 0.001), s }'; }
say "Done: $((size >> 20)) MiB there at $(rate "${seconds[0]}"), back at $(rate "${seconds[1]}"), through $medium storage, verified by SHA-256 and cmp."
echo "Checking, fsync and renaming are in these figures. 'stp bench --stg PATH' measures the transport beside what the storage gives to anyone."
