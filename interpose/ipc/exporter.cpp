#include "interpose/ipc/exporter.h"

#include <errno.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "interpose/doors/originals.h"

namespace flexlom::ipc {

CUresult Exporter::get_handle(CUdeviceptr p, CUipcMemHandle* out) noexcept {
  try {
    pool::DevicePool* device = pool_.owner(p);
    pool::AllocationInfo info;
    if (device == nullptr || !device->find(p, &info) || info.kind == pool::Kind::async ||
        info.kind == pool::Kind::mapped) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    pool::DevicePool::Export pinned;
    const CUresult r = device->pin_for_export(info.base, &pinned);
    if (r != CUDA_SUCCESS) return r == CUDA_ERROR_NOT_SUPPORTED ? CUDA_ERROR_MAP_FAILED : r;
    std::lock_guard lock(mutex_);
    if (!running_ && !start()) return CUDA_ERROR_OUT_OF_MEMORY;
    Handle handle{};
    std::memcpy(handle.magic, kMagic, sizeof kMagic);
    handle.nonce = nonce_.load(std::memory_order_relaxed);
    handle.pid = getpid();
    handle.device = info.device;
    handle.base = info.base;
    handle.id = info.id;
    handle.offset = info.base - pinned.span_base;
    handle.asked_bytes = info.asked_bytes;
    std::memcpy(out, &handle, sizeof handle);
    return CUDA_SUCCESS;
  } catch (...) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
}

bool Exporter::is_ours(const Handle& handle) const noexcept {
  return handle.pid == getpid() && handle.nonce == nonce_.load(std::memory_order_relaxed);
}

bool Exporter::start() {
  uint64_t nonce = 0;
  if (getrandom(&nonce, sizeof nonce, 0) != sizeof nonce) return false;
  sockaddr_un name;
  const socklen_t length = socket_name(getpid(), nonce, &name);
  listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener_ < 0) return false;
  if (bind(listener_, reinterpret_cast<sockaddr*>(&name), length) != 0 ||
      listen(listener_, 16) != 0) {
    close(listener_);
    return false;
  }
  nonce_.store(nonce, std::memory_order_relaxed);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  running_ = pthread_create(&thread_, nullptr, &Exporter::run, this) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (running_)
    pthread_setname_np(thread_, "flexlom-ipc");
  else
    close(listener_);
  return running_;
}

void Exporter::stop() noexcept {
  std::lock_guard lock(mutex_);
  if (!running_) return;
  running_ = false;
  shutdown(listener_, SHUT_RDWR);  // wakes accept()
  pthread_join(thread_, nullptr);
  close(listener_);
}

void* Exporter::run(void* self) {
  static_cast<Exporter*>(self)->serve();
  return nullptr;
}

void Exporter::serve() {
  for (;;) {
    const int peer = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (peer < 0 && errno == EINTR) continue;
    if (peer < 0) return;
    ucred who{};
    socklen_t length = sizeof who;
    // A peer that connects and says nothing must not block the next one for long.
    const timeval patience{2, 0};
    setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(peer, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0 && who.uid == geteuid()) {
      try {
        answer(peer);
      } catch (...) {
        // Out of host memory: the importer sees the connection end and reports a failed mapping.
      }
    }
    close(peer);
  }
}

void Exporter::answer(int peer) {
  Ask ask{};
  if (!receive_all(peer, &ask, sizeof ask) || std::memcmp(ask.magic, kMagic, sizeof kMagic) != 0)
    return;
  pool::DevicePool* device = pool_.owner(ask.base);
  pool::AllocationInfo info;
  pool::DevicePool::Export pinned;
  Reply reply{CUDA_ERROR_INVALID_VALUE, 0};
  const bool live = device != nullptr && device->find(ask.base, &info) && info.id == ask.id &&
                    info.base == ask.base;
  if (!live || device->pin_for_export(ask.base, &pinned) != CUDA_SUCCESS) {
    send_all(peer, &reply, sizeof reply);
    return;
  }
  reply = {CUDA_SUCCESS, static_cast<uint32_t>(pinned.pages.size())};
  std::vector<uint64_t> sizes;
  for (const pool::Page& page : pinned.pages) sizes.push_back(pool::page_bytes(page.order));
  if (!send_all(peer, &reply, sizeof reply) ||
      !send_all(peer, sizes.data(), sizes.size() * sizeof sizes[0]))
    return;
  const auto export_frame = FLEXLOM_ORIGINAL(cuMemExportToShareableHandle);
  for (uint32_t first = 0; first < reply.pages; first += kDescriptorsPerMessage) {
    int descriptors[kDescriptorsPerMessage];
    uint32_t count = 0;
    bool good = export_frame != nullptr;
    while (good && count < kDescriptorsPerMessage && first + count < reply.pages) {
      good = export_frame(&descriptors[count], pinned.pages[first + count].frame.handle,
                          CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0) == CUDA_SUCCESS;
      if (good) ++count;
    }
    if (good) good = send_descriptors(peer, descriptors, count);
    for (uint32_t i = 0; i < count; ++i) close(descriptors[i]);
    if (!good) return;
  }
}

}  // namespace flexlom::ipc
