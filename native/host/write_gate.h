// Gate that lets readers run together and each writer alone. A waiting writer goes before new readers.
#pragma once

#include <condition_variable>
#include <mutex>

namespace pkcs11ha {

class WriteGate {
 public:
  // Pass through the gate, held for the length of a job.
  class Pass {
   public:
    Pass(WriteGate& gate, bool writer) : gate_(gate), writer_(writer) { gate_.enter(writer_); }
    ~Pass() { gate_.leave(writer_); }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    WriteGate& gate_;
    bool writer_;
  };

 private:
  void enter(bool writer) {
    std::unique_lock lock(mutex_);
    if (writer) {
      ++writersWaiting_;
      changed_.wait(lock, [this] { return readers_ == 0 && !writing_; });
      --writersWaiting_;
      writing_ = true;
    } else {
      changed_.wait(lock, [this] { return !writing_ && writersWaiting_ == 0; });
      ++readers_;
    }
  }

  void leave(bool writer) {
    const std::lock_guard lock(mutex_);
    if (writer) {
      writing_ = false;
    } else {
      --readers_;
    }
    if (writer || (readers_ == 0 && writersWaiting_ > 0)) changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  int readers_ = 0;
  int writersWaiting_ = 0;
  bool writing_ = false;
};

}  // namespace pkcs11ha
