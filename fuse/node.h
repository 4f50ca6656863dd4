// What the mount is made of: a tree of nodes, which know nothing of libfuse. session.cc stands between them and the kernel.
//
// Threads: any method may be called from any thread, several at once. No method may block, except those that are given a
// Patience, and these only when it is kMayWait. A node lives as long as the kernel or somebody else knows it; a node that has
// left the tree (its directory no longer finds it) may still be asked.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuse/request.h"
#include "stp/error.h"
#include "stp/timing.h"

namespace stp::view {

// Whether the caller can wait. Everything is asked with kAtOnce first, on a thread that serves the kernel: who would have to read
// the storage or ask the agent fails with EAGAIN then, and is asked again with kMayWait on a thread of the pool. That answer is
// waited for up to the mount's deadline (then the program has ETIMEDOUT), and thrown away when it comes later.
enum class Patience : std::uint8_t { kAtOnce, kMayWait };

inline std::unexpected<Error> not_at_once() { return fail(EAGAIN, "to be waited for"); }

// The kernel checks these against who calls (default_permissions). What is left out is the mount's: its uid, gid, and the modes
// that its options give to what shows and to what talks.
struct Attributes {
  std::optional<mode_t> mode;  // permissions alone
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  // How long the kernel may go on believing that the name is there, and these attributes. Not for texts: their length is of now. A
  // directory's mode and owner never change: these it believes for a moment anyway.
  Nanos valid = 0;
  bool reads_only = false;  // a stream that is shown to whoever may read texts
};

class Node : public std::enable_shared_from_this<Node> {
 public:
  enum class Kind : std::uint8_t { kDirectory, kText, kStream };
  virtual ~Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  virtual Kind kind() const = 0;
  // Tells apart what has one name one after the other (conversation 3 of today and of yesterday). A view of what is on the storage
  // needs none: it shows whatever has the name now.
  virtual std::uint64_t identity() const { return 0; }
  virtual Attributes attributes() { return {}; }

 protected:
  Node() = default;
};
using NodePtr = std::shared_ptr<Node>;

class Directory : public Node {
 public:
  struct Entry {
    std::string name;
    NodePtr node;
  };
  Kind kind() const final { return Kind::kDirectory; }
  // ENOENT: no such name (now).
  virtual Result<NodePtr> lookup(std::string_view name, Patience patience) = 0;
  virtual Result<std::vector<Entry>> list(Patience patience) = 0;
  // `gone`, in place of an earlier one, is to be told of names that are not there any more and will hardly be again, from any thread: the
  // kernel, which keeps what it has seen until it needs the memory, and keeps us from forgetting it, then lets go of it.
  using Gone = std::function<void(std::string name)>;
  virtual void tell_gone(Gone gone) { (void)gone; }
};

// A file whose whole text is made when it is opened, and stays that while it is open.
class TextFile : public Node {
 public:
  Kind kind() const final { return Kind::kText; }
  virtual Result<std::string> text(Patience patience) = 0;
};

// A file that flows. Opened with whatever flags (O_RDONLY, O_WRONLY, O_RDWR, O_NONBLOCK, ...).
class StreamNode : public Node {
 public:
  Kind kind() const final { return Kind::kStream; }
  // Answers by request->opened(file) or request->error(code), now or at any time later. Never blocks. A file that the kernel would
  // not take any more (opened() says false) is released before that returns.
  virtual void open(std::shared_ptr<OpenRequest> request, int flags) = 0;
};

// One open file description of a stream. read and write may be answered at any time later, from any thread; several may wait at
// once. `flags` are those of the open file now: O_NONBLOCK may have been changed by fcntl since it was opened.
class OpenFile {
 public:
  virtual ~OpenFile() = default;
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  // request->data() with at most `size` bytes, none of them at the end of the stream.
  virtual void read(std::shared_ptr<Request> request, std::size_t size, int flags) { (void)size, (void)flags, request->error(EBADF); }
  // `bytes` are the caller's, and gone when this returns.
  virtual void write(std::shared_ptr<Request> request, ConstBytes bytes, int flags) { (void)bytes, (void)flags, request->error(EBADF); }
  // Which of POLLIN, POLLOUT, POLLHUP, POLLERR are now. `waker`, where there is one, is to be kept in place of an earlier one, and
  // told with the next change.
  virtual std::uint32_t poll(std::shared_ptr<Waker> waker) { return (void)waker, 0x5; }
  // Somebody closed a descriptor of it; others may remain.
  virtual void flush(std::shared_ptr<Request> request) { request->error(0); }
  // The last one is closed. Requests that wait are none any more.
  virtual void release() {}

 protected:
  OpenFile() = default;
};

}  // namespace stp::view
