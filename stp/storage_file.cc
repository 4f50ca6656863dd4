#include "stp/storage_file.h"

#include <unistd.h>

namespace stp {

StorageFile::~StorageFile() {
  if (!abandoned()) ::close(fd());
}

bool StorageFile::track(int fd) {
  for (auto& place : tracked_) {
    int empty = 0;
    if (place.compare_exchange_strong(empty, fd + 1)) return true;
  }
  return false;
}

void StorageFile::untrack(int fd) {
  for (auto& place : tracked_) {
    int mine = fd + 1;
    if (place.compare_exchange_strong(mine, 0)) return;
  }
}

void StorageFile::abandon() {
  if (abandoned_.exchange(true)) return;
  for (auto& place : tracked_) {
    if (const int fd = place.exchange(0); fd > 0) ::close(fd - 1);
  }
  ::close(fd_.exchange(-1));
}

}  // namespace stp
