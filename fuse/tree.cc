#include "fuse/tree.h"

#include <fmt/format.h>
#include <netdb.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "fuse/texts.h"

namespace stp::view {
namespace {

using ViewPtr = std::shared_ptr<View>;

std::unexpected<Error> no_such_name() { return fail(ENOENT, "no such name"); }

// As std::to_string writes it, so that nothing has two names.
template <class Number>
std::optional<Number> number_of(std::string_view text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || (text.size() > 1 && text.front() == '0')) return std::nullopt;
  return number;
}

// A text that a function makes.
class Made final : public TextFile {
 public:
  using Make = std::function<Result<std::string>(Patience)>;
  explicit Made(Make make) : make_(std::move(make)) {}
  Result<std::string> text(Patience patience) override { return make_(patience); }

 private:
  const Make make_;
};

NodePtr text(Made::Make make) { return std::make_shared<Made>(std::move(make)); }

// The same names always.
class Fixed final : public Directory {
 public:
  explicit Fixed(std::vector<Entry> entries) : entries_(std::move(entries)) {}
  Result<NodePtr> lookup(std::string_view name, Patience) override {
    const auto it = std::ranges::find(entries_, name, &Entry::name);
    return it == entries_.end() ? Result<NodePtr>(no_such_name()) : it->node;
  }
  Result<std::vector<Entry>> list(Patience) override { return entries_; }

 private:
  const std::vector<Entry> entries_;
};

NodePtr fixed(std::vector<Directory::Entry> entries) { return std::make_shared<Fixed>(std::move(entries)); }

// A text of what the group is now: make(group) gives a std::string or a Result of one.
template <class Make>
NodePtr group_text_file(const ViewPtr& view, Make make) {
  return text([view, make](Patience patience) -> Result<std::string> {
    auto group = view->group(patience);
    if (!group) return std::unexpected(group.error());
    return make(**group);
  });
}

// -- /hosts/NAME/sockets

// One of many thousands: everything in it is made when it is asked for.
class SocketDirectory final : public Directory {
 public:
  SocketDirectory(ViewPtr view, std::string host, std::uint32_t index) : view_(std::move(view)), host_(std::move(host)), index_(index) {}

  // The table on the disk is as old: who lists thousands of sockets need not ask for each whether it is still there.
  Attributes attributes() override { return {.mode = {}, .uid = {}, .gid = {}, .valid = kSecond, .reads_only = false}; }
  Result<NodePtr> lookup(std::string_view name, Patience) override {
    for (const File& file : kFiles)
      if (file.name == name) return make(file);
    return no_such_name();
  }
  Result<std::vector<Entry>> list(Patience) override {
    std::vector<Entry> entries;
    for (const File& file : kFiles) entries.push_back({std::string(file.name), make(file)});
    return entries;
  }

 private:
  struct File {
    std::string_view name;
    std::string (*text)(const SocketRow&);
  };
  static constexpr std::array<File, 3> kFiles = {{{"status", socket_text}, {"local", local_text}, {"remote", remote_text}}};

  NodePtr make(const File& file) const {
    return text([view = view_, host = host_, index = index_, make = file.text](Patience patience) -> Result<std::string> {
      const auto list = view->sockets(host, patience);
      if (!list) return std::unexpected(list.error());
      const auto& rows = (*list)->rows;
      const auto row = std::ranges::lower_bound(rows, index, {}, [](const SocketRow& r) { return r.scb.index; });
      if (row == rows.end() || row->scb.index != index) return no_such_name();
      return make(*row);
    });
  }
  const ViewPtr view_;
  const std::string host_;
  const std::uint32_t index_;
};

class SocketsDirectory final : public Directory {
 public:
  SocketsDirectory(ViewPtr view, std::string host) : view_(std::move(view)), host_(std::move(host)) {}

  Result<NodePtr> lookup(std::string_view name, Patience patience) override {
    const auto index = number_of<std::uint32_t>(name);
    if (!index) return no_such_name();
    const auto list = view_->sockets(host_, patience);
    if (!list) return std::unexpected(list.error());
    const bool there = std::ranges::binary_search((*list)->rows, *index, {}, [](const SocketRow& r) { return r.scb.index; });
    return there ? Result<NodePtr>(make(*index)) : no_such_name();
  }
  Result<std::vector<Entry>> list(Patience patience) override {
    const auto list = view_->sockets(host_, patience);
    if (!list) return std::unexpected(list.error());
    std::vector<Entry> entries;
    entries.reserve((*list)->rows.size());
    for (const SocketRow& row : (*list)->rows) entries.push_back({std::to_string(row.scb.index), make(row.scb.index)});
    return entries;
  }

 private:
  NodePtr make(std::uint32_t index) const { return std::make_shared<SocketDirectory>(view_, host_, index); }
  const ViewPtr view_;
  const std::string host_;
};

// -- /hosts/NAME/ports

// What the machine's list of services calls it. Read on threads that may wait: a name service may be behind it.
Result<std::string> service_text(std::uint16_t port, Patience patience) {
  if (patience == Patience::kAtOnce) return not_at_once();
  servent service = {};
  servent* found = nullptr;
  std::array<char, 2048> room = {};
  if (::getservbyport_r(htons(port), "tcp", &service, room.data(), room.size(), &found) != 0 || found == nullptr) return std::string("-\n");
  return fmt::format("{}\n", found->s_name);
}

class PortsDirectory final : public Directory {
 public:
  PortsDirectory(ViewPtr view, std::string host, std::function<NodePtr(const std::string&, std::uint16_t)> data)
      : view_(std::move(view)), host_(std::move(host)), data_(std::move(data)) {}

  Result<NodePtr> lookup(std::string_view name, Patience patience) override {
    const auto port = number_of<std::uint16_t>(name);
    if (!port) return no_such_name();
    const auto list = view_->ports(host_, patience);
    if (!list) return std::unexpected(list.error());
    const auto row = std::ranges::lower_bound((*list)->rows, *port, {}, &PortRow::port);
    return row != (*list)->rows.end() && row->port == *port ? Result<NodePtr>(make(*row)) : no_such_name();
  }
  Result<std::vector<Entry>> list(Patience patience) override {
    const auto list = view_->ports(host_, patience);
    if (!list) return std::unexpected(list.error());
    std::vector<Entry> entries;
    for (const PortRow& row : (*list)->rows) entries.push_back({std::to_string(row.port), make(row)});
    return entries;
  }

 private:
  NodePtr make(const PortRow& shown) const {
    const std::uint16_t port = shown.port;
    std::vector<Entry> entries;
    entries.push_back({"status", text([view = view_, host = host_, port](Patience patience) -> Result<std::string> {
                         const auto list = view->ports(host, patience);
                         if (!list) return std::unexpected(list.error());
                         const auto row = std::ranges::lower_bound((*list)->rows, port, {}, &PortRow::port);
                         if (row == (*list)->rows.end() || row->port != port) return no_such_name();
                         return port_text(*row);
                       })});
    entries.push_back({"service", text([port](Patience patience) { return service_text(port, patience); })});
    // Where nobody listens, whatever walks over the tree would only be refused.
    if (data_ && shown.state == PortState::kListening) entries.push_back({"data", data_(host_, port)});
    return fixed(std::move(entries));
  }
  const ViewPtr view_;
  const std::string host_;
  const std::function<NodePtr(const std::string&, std::uint16_t)> data_;
};

// -- /hosts

class HostsDirectory final : public Directory {
 public:
  HostsDirectory(ViewPtr view, std::function<NodePtr(const std::string&, std::uint16_t)> data) : view_(std::move(view)), data_(std::move(data)) {}

  Result<NodePtr> lookup(std::string_view name, Patience patience) override {
    const auto group = view_->group(patience);
    if (!group) return std::unexpected(group.error());
    return (*group)->find(name) == nullptr ? Result<NodePtr>(no_such_name()) : make(std::string(name));
  }
  Result<std::vector<Entry>> list(Patience patience) override {
    const auto group = view_->group(patience);
    if (!group) return std::unexpected(group.error());
    std::vector<Entry> entries;
    for (const std::string& name : (*group)->names)
      if (!name.empty()) entries.push_back({name, make(name)});
    return entries;
  }

 private:
  // make(group, report) of the host that has the name when it is asked for.
  template <class Make>
  NodePtr about(const std::string& name, Make make) const {
    return text([view = view_, name, make](Patience patience) -> Result<std::string> {
      auto group = view->group(patience);
      if (!group) return std::unexpected(group.error());
      const HostReport* const report = (*group)->find(name);
      if (report == nullptr) return no_such_name();
      return make(**group, *report, patience);
    });
  }
  NodePtr make(const std::string& name) const {
    const auto status = [view = view_, name](const Group& group, const HostReport& host, Patience patience) -> Result<std::string> {
      std::vector<std::string> faults;
      if (host.held() && host.state != HostState::kUnreadable) {
        const auto sockets = view->sockets(name, patience);
        const auto ports = sockets ? view->ports(name, patience) : std::unexpected(sockets.error());
        if (!ports) return std::unexpected(ports.error());
        faults = (*sockets)->warnings;
        faults.insert(faults.end(), (*ports)->warnings.begin(), (*ports)->warnings.end());
      }
      return host_text(group, host, faults);
    };
    const auto lease = [](const Group& group, const HostReport& host, Patience) -> Result<std::string> { return lease_text(group, host); };
    const auto incarnation = [](const Group&, const HostReport& host, Patience) -> Result<std::string> {
      return host.fault == BlockFault::kNone ? fmt::format("{}\n", host.lease.owner.incarnation) : "-\n";
    };
    return fixed({{"status", about(name, status)},
                  {"lease", about(name, lease)},
                  {"incarnation", about(name, incarnation)},
                  {"sockets", std::make_shared<SocketsDirectory>(view_, name)},
                  {"ports", std::make_shared<PortsDirectory>(view_, name, data_)}});
  }
  const ViewPtr view_;
  const std::function<NodePtr(const std::string&, std::uint16_t)> data_;
};

// -- /conduits

class ConduitsDirectory final : public Directory {
 public:
  explicit ConduitsDirectory(ViewPtr view) : view_(std::move(view)) {}

  Result<NodePtr> lookup(std::string_view name, Patience patience) override {
    const auto conduits = view_->conduits(patience);
    if (!conduits) return std::unexpected(conduits.error());
    return std::ranges::find(**conduits, name, &Conduit::name) == (*conduits)->end() ? Result<NodePtr>(no_such_name()) : make(std::string(name));
  }
  Result<std::vector<Entry>> list(Patience patience) override {
    const auto conduits = view_->conduits(patience);
    if (!conduits) return std::unexpected(conduits.error());
    std::vector<Entry> entries;
    for (const Conduit& conduit : **conduits) entries.push_back({conduit.name, make(conduit.name)});
    return entries;
  }

 private:
  NodePtr make(const std::string& name) const {
    return fixed({{"status", text([view = view_, name](Patience patience) -> Result<std::string> {
                     const auto group = view->group(patience);
                     if (!group) return std::unexpected(group.error());
                     const auto conduits = view->conduits(patience);
                     if (!conduits) return std::unexpected(conduits.error());
                     const auto conduit = std::ranges::find(**conduits, name, &Conduit::name);
                     // The group may have been looked at later than the conduits were.
                     const bool there = conduit != (*conduits)->end() && !(*group)->names[conduit->from].empty() && !(*group)->names[conduit->to].empty();
                     return there ? Result<std::string>(conduit_text(**group, *conduit)) : no_such_name();
                   })}});
  }
  const ViewPtr view_;
};

NodePtr storage_directory(const ViewPtr& view) {
  return fixed({{"superblock", group_text_file(view, [](const Group& group) { return superblock_text(group); })},
                {"layout", group_text_file(view, [](const Group& group) { return layout_text(group.superblock().geometry); })},
                {"faults", text([view](Patience patience) -> Result<std::string> {
                   const auto faults = view->faults(patience);
                   if (!faults) return std::unexpected(faults.error());
                   return faults_text(**faults);
                 })}});
}

}  // namespace

NodePtr make_tree(std::shared_ptr<View> view, Plugs plugs) {
  std::vector<Directory::Entry> entries = {
      {"ctl", group_text_file(view, [](const Group& group) { return geometry_text(group.superblock()); })},
      {"status", group_text_file(view, [view](const Group& group) { return group_text(group, view->source()); })},
      {"status.json", group_text_file(view, [view](const Group& group) { return group_json(group, view->source()); })},
      {"hosts", std::make_shared<HostsDirectory>(view, std::move(plugs.port_data))},
      {"conduits", std::make_shared<ConduitsDirectory>(view)},
      {"storage", storage_directory(view)},
  };
  if (plugs.events) entries.push_back({"events", std::move(plugs.events)});
  if (plugs.net) entries.push_back({"net", std::move(plugs.net)});
  return fixed(std::move(entries));
}

}  // namespace stp::view
