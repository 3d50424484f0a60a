#include "interpose/ipc/importer.h"

#include <sys/socket.h>
#include <unistd.h>

#include "interpose/doors/originals.h"
#include "pool/types.h"

namespace flexlom::ipc {

namespace {

// Descriptors are the kernel's to count: whatever happens, each is closed once.
struct Descriptors {
  std::vector<int> fds;
  ~Descriptors() {
    for (const int fd : fds) ::close(fd);
  }
};

struct Connection {
  int fd = -1;
  ~Connection() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

CUresult Importer::fetch(const Handle& handle, std::vector<uint64_t>* sizes,
                         std::vector<int>* descriptors) {
  Connection peer;
  peer.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un name;
  const socklen_t length = socket_name(handle.pid, handle.nonce, &name);
  if (peer.fd < 0 || connect(peer.fd, reinterpret_cast<sockaddr*>(&name), length) != 0)
    return CUDA_ERROR_MAP_FAILED;
  const timeval patience{10, 0};
  setsockopt(peer.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  Ask ask{};
  std::memcpy(ask.magic, kMagic, sizeof kMagic);
  ask.base = handle.base;
  ask.id = handle.id;
  Reply reply{};
  if (!send_all(peer.fd, &ask, sizeof ask) || !receive_all(peer.fd, &reply, sizeof reply))
    return CUDA_ERROR_MAP_FAILED;
  if (reply.result != CUDA_SUCCESS) return static_cast<CUresult>(reply.result);
  if (reply.pages == 0 || reply.pages > kMostPages) return CUDA_ERROR_MAP_FAILED;
  sizes->resize(reply.pages);
  if (!receive_all(peer.fd, sizes->data(), reply.pages * sizeof(uint64_t)))
    return CUDA_ERROR_MAP_FAILED;
  while (descriptors->size() < reply.pages) {
    const auto left = static_cast<uint32_t>(reply.pages - descriptors->size());
    const uint32_t count = left < kDescriptorsPerMessage ? left : kDescriptorsPerMessage;
    int batch[kDescriptorsPerMessage];
    if (!receive_descriptors(peer.fd, batch, count)) return CUDA_ERROR_MAP_FAILED;
    descriptors->insert(descriptors->end(), batch, batch + count);
  }
  return CUDA_SUCCESS;
}

CUresult Importer::map(Import& import, const std::vector<uint64_t>& sizes,
                       const std::vector<int>& descriptors, int device) {
  const auto import_frame = FLEXLOM_ORIGINAL(cuMemImportFromShareableHandle);
  if (import_frame == nullptr) return CUDA_ERROR_MAP_FAILED;
  size_t total = 0;
  for (const uint64_t s : sizes) {
    if (s == 0 || s % pool::kGranule != 0 || s > pool::page_bytes(pool::kMaxPageOrder))
      return CUDA_ERROR_MAP_FAILED;
    total += s;
  }
  if (driver_.reserve(0, total, &import.reserved) != CUDA_SUCCESS) return CUDA_ERROR_MAP_FAILED;
  import.reserved_bytes = total;
  CUdeviceptr at = import.reserved;
  import.pages.reserve(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i, at += sizes[i - 1]) {
    CUmemGenericAllocationHandle frame = 0;
    // The descriptor is passed as the pointer's value, as the call documents for this handle type.
    void* descriptor = reinterpret_cast<void*>(static_cast<intptr_t>(descriptors[i]));
    CUresult r = import_frame(&frame, descriptor, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    if (r != CUDA_SUCCESS) return CUDA_ERROR_MAP_FAILED;
    r = driver_.map(at, sizes[i], frame);
    if (r != CUDA_SUCCESS) {
      driver_.release(frame);
      return CUDA_ERROR_MAP_FAILED;
    }
    import.pages.push_back({at, sizes[i], frame});
    if (driver_.set_access(at, sizes[i], device) != CUDA_SUCCESS) return CUDA_ERROR_MAP_FAILED;
  }
  return CUDA_SUCCESS;
}

void Importer::unmap(Import& import) {
  for (const Page& page : import.pages) {
    driver_.unmap(page.address, page.bytes);
    driver_.release(page.frame);
  }
  if (import.reserved != 0) driver_.unreserve(import.reserved, import.reserved_bytes);
}

CUresult Importer::open(const Handle& handle, int device, CUdeviceptr* out) noexcept {
  try {
    std::lock_guard lock(mutex_);
    for (auto& [address, import] : imports_) {
      if (std::memcmp(&import.handle, &handle, sizeof handle) != 0) continue;
      // Perhaps for another device than the one that opened it first.
      for (const Page& page : import.pages) {
        if (driver_.set_access(page.address, page.bytes, device) != CUDA_SUCCESS)
          return CUDA_ERROR_MAP_FAILED;
      }
      ++import.opened;
      *out = address;
      return CUDA_SUCCESS;
    }
    std::vector<uint64_t> sizes;
    Descriptors descriptors;
    CUresult r = fetch(handle, &sizes, &descriptors.fds);
    if (r != CUDA_SUCCESS) return r;
    Import import{handle, 0, 0, {}, 1};
    r = map(import, sizes, descriptors.fds, device);
    if (r != CUDA_SUCCESS || handle.offset + handle.asked_bytes > import.reserved_bytes) {
      unmap(import);
      return CUDA_ERROR_MAP_FAILED;
    }
    *out = import.reserved + handle.offset;
    imports_.emplace(*out, std::move(import));
    count_.store(imports_.size(), std::memory_order_release);
    return CUDA_SUCCESS;
  } catch (...) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
}

CUresult Importer::close(CUdeviceptr p) noexcept {
  if (empty()) return CUDA_ERROR_NOT_FOUND;
  std::lock_guard lock(mutex_);
  const auto found = imports_.find(p);
  if (found == imports_.end()) return CUDA_ERROR_NOT_FOUND;
  if (--found->second.opened > 0) return CUDA_SUCCESS;
  // Documented: the driver's own close may synchronise. Work that still reads the mapping would
  // fault.
  if (const auto synchronize = FLEXLOM_ORIGINAL(cuCtxSynchronize)) synchronize();
  unmap(found->second);
  imports_.erase(found);
  count_.store(imports_.size(), std::memory_order_release);
  return CUDA_SUCCESS;
}

bool Importer::find(CUdeviceptr p, Range* out) noexcept {
  std::lock_guard lock(mutex_);
  auto next = imports_.upper_bound(p);
  if (next == imports_.begin()) return false;
  const auto& [address, import] = *--next;
  if (p - address >= import.handle.asked_bytes) return false;
  *out = {address, import.handle.asked_bytes};
  return true;
}

}  // namespace flexlom::ipc
