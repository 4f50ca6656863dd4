// /net: conversations by Plan 9's rules; and the data file of a host's port.
//
//   clone    opening it makes a conversation, and gives its ctl
//   N/ctl    reading gives N and a newline; ctl_words.h has what may be written. A write of "connect" or "announce" ends when that has,
//            with its errno
//   N/data   the stream, when it is connected. Of an announced conversation: opening it waits for the next connection, and that is the
//            stream
//   N/listen opening it waits for the next connection to what is announced, and gives the ctl of a conversation of its own
//   N/local, N/remote   HOST!PORT, as connect takes it
//   N/status            idle, connecting, announced, established, ended-by-peer, ended, broken or hung-up; and what has flowed
//   N/err               why the last thing that failed did: a command, an open, a read or a write, or the stream itself, which breaks when
//                       nobody reads as well. A clone that failed has no file to say it in
//
// A conversation belongs to who opened clone (of one that was listened for: to who announced), and its files are that user's alone. It
// lives while any of ctl, data and listen is open.
//
// data: when the last of those who opened it for writing has closed it, the peer sees the end of the stream; reading goes on. That close
// waits until what was written is in the memory of the peer's host, 3 seconds at most, and tells if it never will be; so does each close
// (that of a child that has it from its parent is one) until everything is there. Where O_NONBLOCK is set it does not wait. Reading gives the end of the stream only where the peer ended it, else the socket's error. Writing to a stream that
// can take no more is EPIPE; the kernel raises no SIGPIPE for a file in a mount.
#pragma once

#include "fuse/conversations.h"
#include "fuse/node.h"

namespace stp::view {

NodePtr make_net(std::shared_ptr<Conversations> conversations);

// Opening it connects to that port; the conversation is the opener's, and gone when the file is closed. It is in /net meanwhile.
NodePtr make_port_data(std::shared_ptr<Conversations> conversations, std::string host, std::uint16_t port);

}  // namespace stp::view
