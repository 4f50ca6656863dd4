// The tree of files over a view.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "fuse/node.h"
#include "fuse/view.h"

namespace stp::view {

// What flows, made elsewhere. Each may be missing: then its names are not there.
struct Plugs {
  NodePtr net;                                                                     // /net
  std::function<NodePtr(const std::string& host, std::uint16_t port)> port_data;   // /hosts/NAME/ports/PORT/data
  NodePtr events;                                                                  // /events
};

NodePtr make_tree(std::shared_ptr<View> view, Plugs plugs);

}  // namespace stp::view
