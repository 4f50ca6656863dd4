// /events: a stream of lines, a line an event (news.h) with the time of day in front. Who opens it hears what happens from then on.
//
// The group is looked at once a second while somebody has the file open, and not otherwise. Somebody who does not read is told how
// many lines were lost. Reads give whole lines as far as they fit, wait where there are none (EAGAIN where O_NONBLOCK is set, EINTR on a
// signal), and never end the stream: that the agent is gone is an event.
#pragma once

#include <memory>

#include "fuse/node.h"
#include "fuse/view.h"

namespace stp::view {

class EventFeed;

struct EventSettings {
  Nanos period = kSecond;
  Nanos deadline = 5 * kSecond;  // of an open, which waits for the first look
  std::size_t most_bytes = 1u << 20;  // that wait for one reader
};

// The feed's thread begins with the first reader. Destroyed, or let go by stop(): what waits is answered with ENODEV.
std::shared_ptr<EventFeed> make_event_feed(std::shared_ptr<View> view, EventSettings settings = {});
NodePtr make_events(std::shared_ptr<EventFeed> feed);
// Ends the thread, waits for it so long; false: it hangs in the storage, and is left behind.
bool stop(EventFeed& feed, Nanos patience);

}  // namespace stp::view
