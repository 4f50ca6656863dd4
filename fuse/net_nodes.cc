#include "fuse/net_nodes.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <string>
#include <utility>

#include "fuse/ctl_words.h"

namespace stp::view {
namespace {

bool waits(int flags) { return (flags & O_NONBLOCK) == 0; }

// -- Open files ----------------------------------------------------------------------------------------------------

class CtlFile final : public OpenFile {
 public:
  explicit CtlFile(Held held) : held_(std::move(held)), text_(std::to_string(held_->number()) + "\n") {}

  void read(std::shared_ptr<Request> request, std::size_t size, int) override {
    std::unique_lock lock(mutex_);
    const std::string part = text_.substr(told_, size);
    told_ += part.size();
    lock.unlock();
    request->data(std::as_bytes(std::span(part)));
  }

  void write(std::shared_ptr<Request> request, ConstBytes bytes, int) override {
    const auto command = parse_ctl({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    if (!command) return request->error(held_->refuse(command.error().code, command.error().text));
    const auto done = [request, size = bytes.size()](int error) { error != 0 ? request->error(error) : request->written(size); };
    if (const auto* connect = std::get_if<ConnectCommand>(&*command)) return held_->connect(request, connect->to, done);
    if (const auto* announce = std::get_if<AnnounceCommand>(&*command)) return held_->announce(announce->port, done);
    if (std::holds_alternative<HangUpCommand>(*command)) held_->hang_up();
    if (const auto* timeout = std::get_if<TimeoutCommand>(&*command)) held_->set_timeout(timeout->span);
    if (!std::holds_alternative<ShutDownCommand>(*command)) return done(0);
    done(held_->end_sending());
  }

  void release() override { const Held last = std::move(held_); }

 private:
  Held held_;
  const std::string text_;
  std::mutex mutex_;
  std::size_t told_ = 0;
};

class DataFile final : public OpenFile {
 public:
  DataFile(Held held, bool writes) : held_(std::move(held)), stream_(held_->stream()), writes_(writes) {
    if (writes_) held_->add_writer();
  }
  ~DataFile() override { release(); }

  void read(std::shared_ptr<Request> request, std::size_t size, int flags) override {
    stream_->read(std::move(request), size, waits(flags));
  }

  void write(std::shared_ptr<Request> request, ConstBytes bytes, int flags) override {
    to_be_drained_.store(waits(flags), std::memory_order_relaxed);
    stream_->write(std::move(request), bytes, waits(flags));
  }

  std::uint32_t poll(std::shared_ptr<Waker> waker) override { return stream_->poll(this, std::move(waker)); }

  void flush(std::shared_ptr<Request> request) override {
    // Each time: who waited before may have given up.
    if (to_be_drained_.load(std::memory_order_relaxed)) return stream_->drain(std::move(request));
    request->error(0);
  }

  void release() override {
    if (!held_) return;
    stream_->forget(this);
    if (writes_) held_->remove_writer();
    const Held last = std::move(held_);
  }

 private:
  Held held_;
  const std::shared_ptr<DataStream> stream_;
  const bool writes_;
  std::atomic<bool> to_be_drained_{false};
};

void give_ctl(OpenRequest& request, Held held) { (void)request.opened(std::make_shared<CtlFile>(std::move(held))); }

void give_data(OpenRequest& request, Held held, int flags) {
  if (held->stream() == nullptr) return request.error(held->refuse(ENOTCONN, "data: the conversation is not connected"));
  (void)request.opened(std::make_shared<DataFile>(std::move(held), (flags & O_ACCMODE) != O_RDONLY));
}

// -- The files of a conversation -----------------------------------------------------------------------------------

Attributes attributes_of(const Conversation& conversation, mode_t mode) {
  return {.mode = mode, .uid = conversation.owner().user, .gid = conversation.owner().group};
}

class ConversationStream final : public StreamNode {
 public:
  enum class Which : std::uint8_t { kCtl, kData, kListen };
  ConversationStream(std::shared_ptr<Conversation> conversation, Which which) : conversation_(std::move(conversation)), which_(which) {}
  std::uint64_t identity() const override { return conversation_->number(); }
  Attributes attributes() override { return attributes_of(*conversation_, 0600); }

  void open(std::shared_ptr<OpenRequest> request, int flags) override {
    Held held = conversation_->hold();
    if (!held) return request->error(ENOENT);
    if (which_ == Which::kCtl) return give_ctl(*request, std::move(held));
    if (which_ == Which::kData && !held->announced()) return give_data(*request, std::move(held), flags);
    // It lives while somebody waits for a connection to it.
    const auto waiting = std::make_shared<Held>(std::move(held));
    const auto accepted = [request, waiting, which = which_, flags](int error, Held conversation) {
      if (error != 0) return request->error(error);
      which == Which::kListen ? give_ctl(*request, std::move(conversation)) : give_data(*request, std::move(conversation), flags);
    };
    (*waiting)->accept(request, waits(flags), accepted);
  }

 private:
  const std::shared_ptr<Conversation> conversation_;
  const Which which_;
};

class ConversationText final : public TextFile {
 public:
  using Tell = std::string (Conversation::*)() const;
  ConversationText(std::shared_ptr<Conversation> conversation, Tell tell) : conversation_(std::move(conversation)), tell_(tell) {}
  std::uint64_t identity() const override { return conversation_->number(); }
  Attributes attributes() override { return attributes_of(*conversation_, 0400); }
  Result<std::string> text(Patience patience) override {
    // That one looks at the socket, where an agent that stands still keeps everybody waiting.
    if (tell_ == &Conversation::status && patience == Patience::kAtOnce) return not_at_once();
    return (*conversation_.*tell_)();
  }

 private:
  const std::shared_ptr<Conversation> conversation_;
  const Tell tell_;
};

class ConversationDirectory final : public Directory {
 public:
  explicit ConversationDirectory(std::shared_ptr<Conversation> conversation) : conversation_(std::move(conversation)) {}
  std::uint64_t identity() const override { return conversation_->number(); }
  Attributes attributes() override { return attributes_of(*conversation_, 0555); }

  Result<NodePtr> lookup(std::string_view name, Patience) override {
    for (Entry& entry : entries())
      if (entry.name == name) return std::move(entry.node);
    return fail(ENOENT, "no such file of a conversation");
  }
  Result<std::vector<Entry>> list(Patience) override { return entries(); }

 private:
  std::vector<Entry> entries() const {
    using Which = ConversationStream::Which;
    const auto stream = [this](Which which) { return std::make_shared<ConversationStream>(conversation_, which); };
    const auto text = [this](ConversationText::Tell tell) { return std::make_shared<ConversationText>(conversation_, tell); };
    return {{"ctl", stream(Which::kCtl)},          {"data", stream(Which::kData)},          {"listen", stream(Which::kListen)},
            {"local", text(&Conversation::local)}, {"remote", text(&Conversation::remote)}, {"status", text(&Conversation::status)},
            {"err", text(&Conversation::error)}};
  }
  const std::shared_ptr<Conversation> conversation_;
};

// -- What makes conversations --------------------------------------------------------------------------------------

Held conversation_for(Conversations& all, OpenRequest& request) {
  const Caller caller = request.caller();
  Held held = all.make({.user = caller.uid, .group = caller.gid});
  if (!held) request.error(ENFILE);
  return held;
}

class CloneNode final : public StreamNode {
 public:
  explicit CloneNode(std::shared_ptr<Conversations> all) : all_(std::move(all)) {}
  void open(std::shared_ptr<OpenRequest> request, int) override {
    if (Held held = conversation_for(*all_, *request)) give_ctl(*request, std::move(held));
  }

 private:
  const std::shared_ptr<Conversations> all_;
};

class PortData final : public StreamNode {
 public:
  PortData(std::shared_ptr<Conversations> all, StpAddress to) : all_(std::move(all)), to_(std::move(to)) {}
  void open(std::shared_ptr<OpenRequest> request, int flags) override {
    const auto held = std::make_shared<Held>(conversation_for(*all_, *request));
    if (!*held) return;
    (*held)->connect(request, to_, [request, held, flags](int error) {
      if (error != 0) return request->error(error);
      give_data(*request, std::move(*held), flags);
    });
  }

 private:
  const std::shared_ptr<Conversations> all_;
  const StpAddress to_;
};

class NetDirectory final : public Directory {
 public:
  explicit NetDirectory(std::shared_ptr<Conversations> all) : all_(std::move(all)), clone_(std::make_shared<CloneNode>(all_)) {}

  Result<NodePtr> lookup(std::string_view name, Patience) override {
    if (name == "clone") return clone_;
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    const bool canonical = error == std::errc() && end == name.data() + name.size() && (name == "0" || name[0] != '0');
    const auto conversation = canonical ? all_->find(number) : nullptr;
    if (conversation == nullptr) return fail(ENOENT, "no such conversation");
    return std::make_shared<ConversationDirectory>(conversation);
  }

  Result<std::vector<Entry>> list(Patience) override {
    std::vector<Entry> entries = {{"clone", clone_}};
    for (const auto& conversation : all_->list())
      entries.push_back({std::to_string(conversation->number()), std::make_shared<ConversationDirectory>(conversation)});
    return entries;
  }

  void tell_gone(Gone gone) override {
    all_->tell_gone([gone = std::move(gone)](std::uint32_t number) {
      if (gone) gone(std::to_string(number));
    });
  }

 private:
  const std::shared_ptr<Conversations> all_;
  const NodePtr clone_;
};

}  // namespace

NodePtr make_net(std::shared_ptr<Conversations> conversations) { return std::make_shared<NetDirectory>(std::move(conversations)); }

NodePtr make_port_data(std::shared_ptr<Conversations> conversations, std::string host, std::uint16_t port) {
  return std::make_shared<PortData>(std::move(conversations), StpAddress{.host = std::move(host), .port = port});
}

}  // namespace stp::view
