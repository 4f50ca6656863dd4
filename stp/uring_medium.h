// The direct medium through io_uring: one ring, shared by the threads of one program as the Medium contract says.
//
// Threads. The submission side and the head of the completion side belong to whoever holds the owner's lock. wait() only
// looks at the completion ring and enters the kernel to sleep there, so it may run beside them. What wakes a sleeper is a
// poll of an eventfd that is always armed on the ring.
//
// Who brings completions. The kernel puts a completion into the ring by the thread that had handed the request in, and interrupts it for that
// wherever it runs; on virtual machines each such interrupt costs microseconds on both sides. With IORING_SETUP_COOP_TASKRUN it does not
// interrupt: a thread that sleeps in the kernel is woken as ever, one that runs does it when it enters the kernel next, which the driver does all
// the time. What is left is the thread that handed something in and now computes while another one waits: the latter naps instead of sleeping, and
// when the kernel says that completions are held up (IORING_SQ_TASKRUN) it interrupts the process's threads itself, by membarrier(2); so does who
// wakes a sleeper by a poll that such a thread had handed in. Where the kernel has not got all of that the ring is an ordinary one.
// SINGLE_ISSUER and DEFER_TASKRUN bind a ring to one thread; here each may submit.
//
// Requests that the kernel gives back unstarted (EAGAIN; ECANCELED or EFAULT when the thread that had submitted them
// has ended) are submitted again, kMaxAttempts times; their owner never sees that.
#pragma once

#include <liburing.h>
#include <sys/types.h>

#include <atomic>
#include <deque>
#include <memory>
#include <vector>

#include "stp/error.h"
#include "stp/medium.h"
#include "stp/prompt_write.h"
#include "stp/spin.h"
#include "stp/storage_file.h"

namespace stp {

class UringMedium final : public Medium {
 public:
  // Whether this kernel lets us have a ring with what this medium needs; the words are for an operator. Asked once a process.
  static Result<void> available();

  static Result<std::unique_ptr<Medium>> create(std::shared_ptr<StorageFile> file, std::uint32_t block_size, std::uint64_t total_blocks);
  ~UringMedium() override;

  std::uint32_t block_size() const override { return block_size_; }
  std::uint64_t total_blocks() const override { return total_blocks_; }
  void submit(const IoRequest& request) override;
  void flush() override;
  bool keeps() const override { return prompt_.kept(); }
  void carry_out() override;
  void let_go() override;
  std::size_t reap(std::span<IoCompletion> out) override;
  void wait(Nanos deadline, Nanos spin) override;
  void wake() override;
  bool watch(int fd) override;
  bool watching() const override { return watch_wanted_; }
  std::shared_ptr<const Count> under_way_by_this_thread() const override { return under_way_by_caller(); }
  static std::shared_ptr<const Count> under_way_by_caller();  // in all media

 private:
  struct Request {
    IoRequest io;
    unsigned attempts = 0;
    std::shared_ptr<Count> handed_in_by = nullptr;  // how many requests of that thread are under way
  };
  static constexpr std::uint32_t kNoRequest = ~std::uint32_t{0};
  void note_handed_in(unsigned count);

  UringMedium(std::shared_ptr<StorageFile> file, std::uint32_t block_size, std::uint64_t total_blocks);
  Result<void> set_up();
  bool foreign_process() const;
  void push();                       // backlog -> submission ring -> kernel, as far as that goes
  bool queue_one(std::uint32_t id);  // false: the submission ring is full
  bool poll(int fd, std::uint64_t data);
  void take_wake();
  void take_watch(int result);
  void take(const IoRequest& request);
  bool finish(std::uint32_t id, int result, IoCompletion& out);  // false: it goes round again
  bool ready();                                                  // something to reap, or woken
  void sleep(Nanos now, Nanos longest);
  bool others_have_requests() const;
  bool held_up() const;  // completions that their thread has not brought yet
  void drain();

  std::shared_ptr<StorageFile> file_;
  const std::uint32_t block_size_;
  const std::uint64_t total_blocks_;
  const pid_t pid_;
  io_uring ring_{};
  int wake_fd_ = -1;
  bool ring_made_ = false;
  bool cooperative_ = false;
  bool wake_armed_ = false;
  int watched_fd_ = -1;
  bool watch_wanted_ = false, watch_armed_ = false;
  bool watch_refused_ = false;  // by the kernel, of this descriptor

  std::vector<Request> requests_;  // by id, which is the request's user_data
  std::vector<std::uint32_t> free_ids_;
  std::deque<std::uint32_t> backlog_;  // ids that the submission ring has not seen yet
  std::deque<std::uint32_t> in_submission_ring_;  // ids (kNoRequest: of a poll) that the kernel has not taken yet
  std::atomic<std::uint32_t> in_ring_{0};  // ids between submission ring and completion
  std::deque<IoCompletion> refused_;   // completed without the kernel
  std::atomic<std::size_t> refused_count_{0};
  std::atomic<bool> unsettled_{false};  // something could not be handed to the kernel: nobody may sleep long
  std::atomic<bool> woken_{false};
  std::atomic<const void*> sleeping_{nullptr};   // which thread
  std::atomic<const void*> polled_by_{nullptr};  // the thread that brings the completion of the poll of wake_fd_
  PromptWrite prompt_;
  Spin spin_;
};

}  // namespace stp
