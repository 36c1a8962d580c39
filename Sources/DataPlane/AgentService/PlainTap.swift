internal import AgentProtocol
internal import BlockModel
internal import LinuxPlatform
internal import NBDServer
internal import Replication
internal import Seams
internal import VolumeTap

/// Carries out what waits for an agent that won't come back: an export straight onto the volume's own data.
struct PlainTap {
  let socket: String
  let blockBytes: UInt32
  private let device: FileBlockDevice
  private let listener: TapListener

  init(_ volume: VolumeConfiguration, _ socket: String, _ path: String) throws {
    self.socket = socket
    let device = try FileBlockDevice(path: path, .init(access: .direct))
    self.device = device
    blockBytes = device.blockBytes
    let export = TapExport(
      name: volume.name.text, sizeBytes: volume.sizeBytes, device: device,
      changedData: { range, _ in [SourceMachine.MapRun(range: range, differs: true)] }
    ) { operation, request, payload, completion in
      completion(Self.carryOut(operation, request, payload, device))
    }
    let server = NBDServer()
    server.add(export)
    try Files.makeDirectories(Files.parent(of: socket), mode: 0o700)
    listener = try TapListener(path: socket, server: server)
  }

  func stop() {
    listener.stop()
    device.close()
  }

  private static func carryOut(
    _ operation: ApplicationOperation, _ request: NBDRequest, _ payload: PayloadBuffer, _ device: FileBlockDevice
  ) -> Result<Void, NBDErrorCode> {
    do throws(BlockDeviceError) {
      switch operation {
      case .read: try device.read(at: request.range.offset, into: payload.bytes)
      case .write:
        try device.write(
          at: request.range.offset, from: UnsafeRawBufferPointer(payload.bytes), durable: request.durable)
      case .zeroes: try device.writeZeroes(request.range, mayUnmap: true, durable: request.durable)
      case .flush: try device.flush()
      }
      return .success(())
    } catch {
      return .failure(NBDErrorCode(error))
    }
  }
}
