#include "fuse/session.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "fuse/fuse_request.h"
#include "fuse/inode_table.h"
#include "fuse/workers.h"
#include "stp/system.h"

namespace stp::view {
namespace {

constexpr unsigned kWorkers = 4;           // that wait for the storage
constexpr unsigned kSessionThreads = 4;    // that serve the kernel, and never wait
constexpr std::size_t kMostRequest = 1u << 20;
constexpr Nanos kPatienceAtEnd = 2 * kSecond;
constexpr Nanos kDirectoryValid = 100 * kMillisecond;  // its attributes, not its name

class FuseSession final : public Session {
 public:
  explicit FuseSession(SessionSettings settings)
      : settings_(std::move(settings)), gate_(std::make_shared<FuseGate>()), files_(std::make_shared<OpenFiles>()),
        workers_(settings_.deadline), began_ms_(wall_clock_ms()) {}
  ~FuseSession() override { end(); }

  Result<void> begin();
  Result<void> daemonize(bool foreground) override;
  Result<bool> run(NodePtr root) override;

  // What the kernel asks.
  void lookup(fuse_req_t request, fuse_ino_t parent, const char* name);
  void forget(fuse_ino_t ino, std::uint64_t times) { table_->forget(ino, times); }
  void getattr(fuse_req_t request, fuse_ino_t ino);
  void setattr(fuse_req_t request, fuse_ino_t ino, int to_set);
  void opendir(fuse_req_t request, fuse_ino_t ino, fuse_file_info* info);
  void readdir(fuse_req_t request, fuse_ino_t ino, std::size_t size, off_t from, fuse_file_info* info, bool plus);
  void answer_open(const std::shared_ptr<FuseRequest>& request, fuse_file_info& info, std::unique_ptr<Handle> handle);
  void answer_readdir(fuse_req_t request, fuse_ino_t ino, std::size_t size, off_t from, const Handle& handle, bool plus);
  void open(fuse_req_t request, fuse_ino_t ino, fuse_file_info* info);
  void read(fuse_req_t request, std::size_t size, off_t from, fuse_file_info* info);
  void write(fuse_req_t request, const char* bytes, std::size_t size, fuse_file_info* info);
  void flush(fuse_req_t request, fuse_file_info* info);
  void poll(fuse_req_t request, fuse_file_info* info, fuse_pollhandle* handle);
  void release(fuse_req_t request, fuse_file_info* info);

 private:
  using RequestPtr = std::shared_ptr<FuseRequest>;
  RequestPtr take(fuse_req_t request) { return std::make_shared<FuseRequest>(request, gate_, files_); }
  // `work(request, patience)`: an errno, 0 when it has answered; EAGAIN to be called again where it can wait.
  template <class Work>
  void ask(fuse_req_t raw, Work work);
  NodePtr find(fuse_req_t request, fuse_ino_t ino);
  struct stat stat_without_size(Node& node, std::uint64_t number);
  bool add_entry(fuse_req_t request, std::span<char> room, std::size_t& used, fuse_ino_t directory, const Directory::Entry& entry, off_t next, bool plus,
                 std::vector<std::uint64_t>& entered);
  void forget_what_goes(Directory& directory, fuse_ino_t number);
  void answer_one(int patience_ms);
  void end();

  const SessionSettings settings_;
  std::unique_ptr<InodeTable> table_;  // there when it runs
  const std::shared_ptr<FuseGate> gate_;
  const std::shared_ptr<OpenFiles> files_;
  Workers workers_;
  Wakers wakers_;
  const std::uint64_t began_ms_;
  fuse_session* session_ = nullptr;
  bool mounted_ = false;
  bool handling_signals_ = false;
};

Handle* handle_of(const fuse_file_info* info) { return reinterpret_cast<Handle*>(static_cast<std::uintptr_t>(info->fh)); }

double name_validity(Node& node) { return node.kind() == Node::Kind::kText ? 0 : in_seconds(node.attributes().valid); }

// The kernel looks at the permissions of a directory with each use of a name in it, and would ask for them each time. A directory has the
// same mode and owner for as long as it lives; whether it is still there is the name's matter.
double attribute_validity(Node& node) {
  const double name = name_validity(node);
  return node.kind() == Node::Kind::kDirectory ? std::max(name, in_seconds(kDirectoryValid)) : name;
}

timespec time_of(std::uint64_t ms) { return {.tv_sec = static_cast<time_t>(ms / 1000), .tv_nsec = static_cast<long>(ms % 1000 * 1'000'000)}; }

template <class Work>
void FuseSession::ask(fuse_req_t raw, Work work) {
  const RequestPtr request = take(raw);
  const int code = work(request, Patience::kAtOnce);
  if (code == 0) return;
  if (code != EAGAIN) return request->error(code);
  workers_.run(
      [request, work]() mutable {
        if (const int late = work(request, Patience::kMayWait); late != 0) request->error(late == EAGAIN ? EIO : late);
      },
      [request] { request->error(ETIMEDOUT); });
}

NodePtr FuseSession::find(fuse_req_t request, fuse_ino_t ino) {
  NodePtr node = table_->find(ino);
  if (node == nullptr) fuse_reply_err(request, ESTALE);
  return node;
}

struct stat FuseSession::stat_without_size(Node& node, std::uint64_t number) {
  const Attributes attributes = node.attributes();
  struct stat out = {};
  out.st_ino = number;
  out.st_nlink = 1;
  mode_t mode = settings_.show_mode;
  mode_t type = S_IFREG;
  if (node.kind() == Node::Kind::kDirectory) {
    type = S_IFDIR;
    mode |= (settings_.show_mode & 0444) >> 2;
    out.st_nlink = 2;
  } else if (node.kind() == Node::Kind::kStream) {
    mode = attributes.reads_only ? settings_.show_mode : settings_.talk_mode;
  }
  out.st_mode = type | attributes.mode.value_or(mode);
  out.st_uid = attributes.uid.value_or(settings_.uid);
  out.st_gid = attributes.gid.value_or(settings_.gid);
  out.st_blksize = 4096;
  // A view is always of now. The time of change does not move: tar would call every file changed under its hands.
  out.st_ctim = time_of(began_ms_);
  out.st_atim = out.st_mtim = time_of(wall_clock_ms());
  return out;
}

void set_size(struct stat& stat, std::size_t bytes) {
  stat.st_size = static_cast<off_t>(bytes);
  stat.st_blocks = (stat.st_size + 511) / 512;
}

void FuseSession::lookup(fuse_req_t raw, fuse_ino_t parent, const char* name) {
  const NodePtr node = find(raw, parent);
  if (node == nullptr) return;
  if (node->kind() != Node::Kind::kDirectory) return (void)fuse_reply_err(raw, ENOTDIR);
  forget_what_goes(static_cast<Directory&>(*node), parent);
  ask(raw, [this, node, parent, name = std::string(name)](const RequestPtr& request, Patience patience) {
    auto found = static_cast<Directory&>(*node).lookup(name, patience);
    if (!found) return found.error().code;
    fuse_entry_param entry = {};
    const std::uint64_t number = entry.ino = table_->number(parent, name, **found);
    entry.attr = stat_without_size(**found, number);
    if ((*found)->kind() == Node::Kind::kText) {
      const auto text = static_cast<TextFile&>(**found).text(patience);
      if (!text) return text.error().code;
      set_size(entry.attr, text->size());
      // Somebody has open what it was before: the two have a length each.
      if (const Text open = table_->open_text(number); open != nullptr && *open != *text) entry.ino = table_->fresh_number();
    }
    entry.entry_timeout = name_validity(**found);
    entry.attr_timeout = attribute_validity(**found);
    request->answer([&](fuse_req_t to) {
      table_->enter(entry.ino, *found, number);
      const int code = fuse_reply_entry(to, &entry);
      if (code != 0) table_->forget(entry.ino, 1);
      return code;
    });
    return 0;
  });
}

void FuseSession::getattr(fuse_req_t raw, fuse_ino_t ino) {
  const NodePtr node = find(raw, ino);
  if (node == nullptr) return;
  ask(raw, [this, node, ino](const RequestPtr& request, Patience patience) {
    struct stat stat = stat_without_size(*node, table_->shown(ino));
    if (node->kind() == Node::Kind::kText) {
      if (const Text open = table_->open_text(ino); open != nullptr) {
        set_size(stat, open->size());
      } else {
        const auto text = static_cast<TextFile&>(*node).text(patience);
        if (!text) return text.error().code;
        set_size(stat, text->size());
      }
    }
    // The root has no name here: by its attributes everybody sees whether the mount is still served.
    const double valid = ino == InodeTable::kRoot ? 0 : attribute_validity(*node);
    request->answer([&](fuse_req_t to) { return fuse_reply_attr(to, &stat, valid); });
    return 0;
  });
}

// A shell's `> file` truncates, and `cp -p` sets times: nothing of that means anything to what flows.
void FuseSession::setattr(fuse_req_t raw, fuse_ino_t ino, int to_set) {
  const NodePtr node = find(raw, ino);
  if (node == nullptr) return;
  if (node->kind() != Node::Kind::kStream || (to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0) return (void)fuse_reply_err(raw, EPERM);
  const struct stat stat = stat_without_size(*node, ino);
  (void)fuse_reply_attr(raw, &stat, 0);
}

void FuseSession::answer_open(const RequestPtr& request, fuse_file_info& info, std::unique_ptr<Handle> handle) {
  Handle* const kept = files_->keep(std::move(handle));
  info.fh = reinterpret_cast<std::uintptr_t>(kept);
  if (!request->answer([&](fuse_req_t to) { return fuse_reply_open(to, &info); })) (void)files_->let_go(kept);
}

void FuseSession::opendir(fuse_req_t raw, fuse_ino_t ino, fuse_file_info* info) {
  const NodePtr node = find(raw, ino);
  if (node == nullptr) return;
  if (node->kind() != Node::Kind::kDirectory) return (void)fuse_reply_err(raw, ENOTDIR);
  forget_what_goes(static_cast<Directory&>(*node), ino);
  ask(raw, [this, node, info = *info](const RequestPtr& request, Patience patience) mutable {
    auto entries = static_cast<Directory&>(*node).list(patience);
    if (!entries) return entries.error().code;
    auto handle = std::make_unique<Handle>();
    handle->entries = std::move(*entries);
    answer_open(request, info, std::move(handle));
    return 0;
  });
}

// False: it does not fit. Texts are told by name alone: whoever wants to know their length asks.
bool FuseSession::add_entry(fuse_req_t request, std::span<char> room, std::size_t& used, fuse_ino_t directory, const Directory::Entry& entry, off_t next, bool plus,
                            std::vector<std::uint64_t>& entered) {
  fuse_entry_param param = {};
  const std::uint64_t number = entry.node == nullptr ? directory : table_->number(directory, entry.name, *entry.node);
  if (entry.node == nullptr) {
    param.attr.st_mode = S_IFDIR;
    param.attr.st_ino = number;
  } else {
    param.attr = stat_without_size(*entry.node, number);
    if (entry.node->kind() != Node::Kind::kText) param.ino = number;
    param.entry_timeout = name_validity(*entry.node);
    param.attr_timeout = attribute_validity(*entry.node);
  }
  char* const at = room.data() + used;
  const std::size_t left = room.size() - used;
  const std::size_t needed = plus ? fuse_add_direntry_plus(request, at, left, entry.name.c_str(), &param, next)
                                  : fuse_add_direntry(request, at, left, entry.name.c_str(), &param.attr, next);
  if (needed > left) return false;
  used += needed;
  if (plus && param.ino != 0) {
    table_->enter(number, entry.node);
    entered.push_back(number);
  }
  return true;
}

void FuseSession::readdir(fuse_req_t raw, fuse_ino_t ino, std::size_t size, off_t from, fuse_file_info* info, bool plus) {
  Handle& handle = *handle_of(info);
  if (from != 0 || !std::exchange(handle.listed, true)) return answer_readdir(raw, ino, size, from, handle, plus);
  // Who begins again sees what is there now.
  const NodePtr node = find(raw, ino);
  if (node == nullptr) return;
  ask(raw, [this, node, ino, size, &handle, plus](const RequestPtr& request, Patience patience) {
    auto entries = static_cast<Directory&>(*node).list(patience);
    if (!entries) return entries.error().code;
    // The handle is there as long as this is not answered.
    request->answer([&](fuse_req_t to) {
      handle.entries = std::move(*entries);
      answer_readdir(to, ino, size, 0, handle, plus);
      return 0;
    });
    return 0;
  });
}

void FuseSession::answer_readdir(fuse_req_t raw, fuse_ino_t ino, std::size_t size, off_t from, const Handle& handle, bool plus) {
  const std::vector<Directory::Entry>& entries = handle.entries;
  static const Directory::Entry dots[2] = {{".", nullptr}, {"..", nullptr}};
  const std::size_t all = entries.size() + std::size(dots);
  std::vector<char> room(std::min(size, kMostRequest));
  std::size_t used = 0;
  std::vector<std::uint64_t> entered;
  for (std::size_t i = from < 0 ? all : static_cast<std::size_t>(from); i < all; ++i) {
    const Directory::Entry& entry = i < std::size(dots) ? dots[i] : entries[i - std::size(dots)];
    if (!add_entry(raw, room, used, ino, entry, static_cast<off_t>(i + 1), plus, entered)) break;
  }
  if (fuse_reply_buf(raw, room.data(), used) != 0)
    for (const std::uint64_t number : entered) table_->forget(number, 1);
}

void FuseSession::open(fuse_req_t raw, fuse_ino_t ino, fuse_file_info* info) {
  const NodePtr node = find(raw, ino);
  if (node == nullptr) return;
  if (node->kind() == Node::Kind::kDirectory) return (void)fuse_reply_err(raw, EISDIR);
  if (node->kind() == Node::Kind::kStream) return static_cast<StreamNode&>(*node).open(take(raw), info->flags);
  if ((info->flags & O_ACCMODE) != O_RDONLY) return (void)fuse_reply_err(raw, EACCES);
  ask(raw, [this, node, ino, info = *info](const RequestPtr& request, Patience patience) mutable {
    auto text = static_cast<TextFile&>(*node).text(patience);
    if (!text) return text.error().code;
    auto handle = std::make_unique<Handle>();
    handle->text = table_->open(ino, std::make_shared<const std::string>(std::move(*text)));
    // Not through the page cache: each descriptor reads what was the text when it was opened.
    info.direct_io = 1;
    answer_open(request, info, std::move(handle));
    return 0;
  });
}

void FuseSession::read(fuse_req_t raw, std::size_t size, off_t from, fuse_file_info* info) {
  const Handle* const handle = handle_of(info);
  if (handle->stream != nullptr) return handle->stream->read(take(raw), std::min(size, kMostRequest), info->flags);
  const Text kept = handle->text;  // whoever closes does not wait for the end of this
  const std::string& text = *kept;
  const std::size_t begin = std::min(static_cast<std::size_t>(std::max<off_t>(from, 0)), text.size());
  (void)fuse_reply_buf(raw, text.data() + begin, std::min(size, text.size() - begin));
}

void FuseSession::write(fuse_req_t raw, const char* bytes, std::size_t size, fuse_file_info* info) {
  const Handle* const handle = handle_of(info);
  if (handle->stream == nullptr) return (void)fuse_reply_err(raw, EBADF);
  handle->stream->write(take(raw), std::as_bytes(std::span(bytes, size)), info->flags);
}

void FuseSession::flush(fuse_req_t raw, fuse_file_info* info) {
  const Handle* const handle = handle_of(info);
  if (handle->stream == nullptr) return (void)fuse_reply_err(raw, 0);
  handle->stream->flush(take(raw));
}

void FuseSession::poll(fuse_req_t raw, fuse_file_info* info, fuse_pollhandle* poll_handle) {
  std::shared_ptr<Waker> waker = wakers_.make(poll_handle);
  const Handle* const handle = handle_of(info);
  const unsigned bits = handle->stream == nullptr ? POLLIN | POLLRDNORM : handle->stream->poll(std::move(waker));
  (void)fuse_reply_poll(raw, bits);
}

void FuseSession::release(fuse_req_t raw, fuse_file_info* info) {
  const std::unique_ptr<Handle> handle = files_->let_go(handle_of(info));
  if (handle != nullptr && handle->stream != nullptr) files_->release(handle->stream);
  (void)fuse_reply_err(raw, 0);
}

FuseSession& self(fuse_req_t request) { return *static_cast<FuseSession*>(fuse_req_userdata(request)); }

fuse_lowlevel_ops operations() {
  fuse_lowlevel_ops ops = {};
  ops.init = [](void*, fuse_conn_info* connection) {
    connection->max_write = kMostRequest;
    connection->max_readahead = 0;
    // What a listing told of the nodes need not be asked for one by one, of the later names of a long one as well.
    connection->want &= ~static_cast<unsigned>(FUSE_CAP_READDIRPLUS_AUTO);
  };
  ops.lookup = [](fuse_req_t r, fuse_ino_t parent, const char* name) { self(r).lookup(r, parent, name); };
  ops.forget = [](fuse_req_t r, fuse_ino_t ino, std::uint64_t times) {
    self(r).forget(ino, times);
    fuse_reply_none(r);
  };
  ops.forget_multi = [](fuse_req_t r, std::size_t count, fuse_forget_data* all) {
    for (std::size_t i = 0; i < count; ++i) self(r).forget(all[i].ino, all[i].nlookup);
    fuse_reply_none(r);
  };
  ops.getattr = [](fuse_req_t r, fuse_ino_t ino, fuse_file_info*) { self(r).getattr(r, ino); };
  ops.setattr = [](fuse_req_t r, fuse_ino_t ino, struct stat*, int to_set, fuse_file_info*) { self(r).setattr(r, ino, to_set); };
  ops.opendir = [](fuse_req_t r, fuse_ino_t ino, fuse_file_info* info) { self(r).opendir(r, ino, info); };
  ops.readdir = [](fuse_req_t r, fuse_ino_t ino, std::size_t size, off_t from, fuse_file_info* info) { self(r).readdir(r, ino, size, from, info, false); };
  ops.readdirplus = [](fuse_req_t r, fuse_ino_t ino, std::size_t size, off_t from, fuse_file_info* info) { self(r).readdir(r, ino, size, from, info, true); };
  ops.releasedir = [](fuse_req_t r, fuse_ino_t, fuse_file_info* info) { self(r).release(r, info); };
  ops.open = [](fuse_req_t r, fuse_ino_t ino, fuse_file_info* info) { self(r).open(r, ino, info); };
  ops.read = [](fuse_req_t r, fuse_ino_t, std::size_t size, off_t from, fuse_file_info* info) { self(r).read(r, size, from, info); };
  ops.write = [](fuse_req_t r, fuse_ino_t, const char* bytes, std::size_t size, off_t, fuse_file_info* info) { self(r).write(r, bytes, size, info); };
  ops.flush = [](fuse_req_t r, fuse_ino_t, fuse_file_info* info) { self(r).flush(r, info); };
  ops.poll = [](fuse_req_t r, fuse_ino_t, fuse_file_info* info, fuse_pollhandle* handle) { self(r).poll(r, info, handle); };
  ops.release = [](fuse_req_t r, fuse_ino_t, fuse_file_info* info) { self(r).release(r, info); };
  // The tree is not changed by making and removing names.
  ops.mknod = [](fuse_req_t r, fuse_ino_t, const char*, mode_t, dev_t) { (void)fuse_reply_err(r, EROFS); };
  ops.mkdir = [](fuse_req_t r, fuse_ino_t, const char*, mode_t) { (void)fuse_reply_err(r, EROFS); };
  ops.unlink = [](fuse_req_t r, fuse_ino_t, const char*) { (void)fuse_reply_err(r, EROFS); };
  ops.rmdir = [](fuse_req_t r, fuse_ino_t, const char*) { (void)fuse_reply_err(r, EROFS); };
  ops.rename = [](fuse_req_t r, fuse_ino_t, const char*, fuse_ino_t, const char*, unsigned) { (void)fuse_reply_err(r, EROFS); };
  ops.symlink = [](fuse_req_t r, const char*, fuse_ino_t, const char*) { (void)fuse_reply_err(r, EROFS); };
  ops.link = [](fuse_req_t r, fuse_ino_t, fuse_ino_t, const char*) { (void)fuse_reply_err(r, EROFS); };
  return ops;
}

Result<void> FuseSession::begin() {
  fuse_args args = FUSE_ARGS_INIT(0, nullptr);
  fuse_opt_add_arg(&args, "stp-fuse");
  for (const std::string& option : settings_.mount_options) {
    fuse_opt_add_arg(&args, "-o");
    fuse_opt_add_arg(&args, option.c_str());
  }
  static const fuse_lowlevel_ops ops = operations();
  session_ = fuse_session_new(&args, &ops, sizeof ops, this);
  fuse_opt_free_args(&args);
  if (session_ == nullptr) return fail(EINVAL, "libfuse does not take these mount options");
  if (fuse_session_mount(session_, settings_.mountpoint.c_str()) != 0) return fail(EIO, fmt::format("\"{}\" could not be mounted on", settings_.mountpoint));
  mounted_ = true;
  return {};
}

Result<void> FuseSession::daemonize(bool foreground) {
  if (fuse_daemonize(foreground ? 1 : 0) != 0) return fail(EIO, "could not go into the background");
  return {};
}

Result<bool> FuseSession::run(NodePtr root) {
  table_ = std::make_unique<InodeTable>(std::move(root));
  if (!workers_.start(kWorkers) || !wakers_.start()) return fail(EAGAIN, "there is no room for more threads");
  if (fuse_set_signal_handlers(session_) != 0) return fail(EIO, "could not have signals handled");
  handling_signals_ = true;
  fuse_loop_config* const config = fuse_loop_cfg_create();
  fuse_loop_cfg_set_max_threads(config, kSessionThreads);
  const int ended = fuse_session_loop_mt(session_, config);
  fuse_loop_cfg_destroy(config);
  if (ended < 0) return fail(-ended, fmt::format("the mount on \"{}\" broke: {}", settings_.mountpoint, std::strerror(-ended)));
  const bool all_ended = workers_.stop(kPatienceAtEnd);
  end();
  return all_ended;
}

// The kernel then forgets it too. That waits there for whoever looks something up in the directory, so it is not a thread's that answers.
void FuseSession::forget_what_goes(Directory& directory, fuse_ino_t number) {
  directory.tell_gone([run = wakers_.runner(), session = session_, number](std::string name) {
    run([session, number, name = std::move(name)] { (void)fuse_lowlevel_notify_inval_entry(session, number, name.c_str(), name.size()); });
  });
}

void FuseSession::answer_one(int patience_ms) {
  pollfd look = {.fd = fuse_session_fd(session_), .events = POLLIN, .revents = 0};
  if (::poll(&look, 1, patience_ms) <= 0 || (look.revents & POLLIN) == 0) return;
  fuse_buf asked = {};
  if (fuse_session_receive_buf(session_, &asked) > 0) fuse_session_process_buf(session_, &asked);
  std::free(asked.mem);
}

void FuseSession::end() {
  while (!wakers_.stop(std::chrono::milliseconds(1))) answer_one(10);
  gate_->shut();
  if (session_ != nullptr) {
    if (handling_signals_) fuse_remove_signal_handlers(session_);
    if (mounted_) fuse_session_unmount(session_);
    // Requests that nobody answered any more are libfuse's, and it does not let go of them: so the session stays.
    static std::vector<fuse_session*>& staying = *new std::vector<fuse_session*>;
    staying.push_back(std::exchange(session_, nullptr));
  }
  files_->release_all();
}

}  // namespace

Result<std::unique_ptr<Session>> Session::mount(const SessionSettings& settings) {
  auto session = std::make_unique<FuseSession>(settings);
  if (auto begun = session->begin(); !begun) return std::unexpected(begun.error());
  return session;
}

}  // namespace stp::view
