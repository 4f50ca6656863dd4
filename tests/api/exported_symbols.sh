#!/bin/sh
# libstp.so gives programs the STP calls and nothing else. Usage: exported_symbols.sh LIBRARY NM
set -eu
symbols=$("$2" -D --defined-only "$1" | awk '$2 != "A" { print $3 }' | sed 's/@.*//')
other=$(printf '%s\n' "$symbols" | grep -v '^STP' || true)
if [ -n "$other" ]; then
  echo "exported besides the STP calls:" "$other" >&2
  exit 1
fi
for call in socket bind listen accept accept4 connect send recv readv writev close shutdown gethostbyname gethostname getsockname \
  getpeername getsockopt setsockopt fcntl ioctl error strerror getopt setopt poll select getpollfd; do
  printf '%s\n' "$symbols" | grep -qx "STP$call" || { echo "STP$call is not exported" >&2; exit 1; }
done
