import CCurl

/// One request in libcurl's hands. Belongs to the engine's thread; `free` ends it, exactly once.
final class CurlTransfer {
  let job: CurlEngine.Job
  let handle: UnsafeMutableRawPointer
  private let errorText: UnsafeMutablePointer<CChar>
  private var headerList: UnsafeMutablePointer<curl_slist>?
  private var headers: [HTTPHeader] = []
  private var headerBytes = 0
  private var body: [UInt8] = []
  private var exceededLimit = false

  init(_ job: CurlEngine.Job, _ settings: CurlSettings) throws(HTTPTransportError) {
    guard let handle = curl_easy_init() else {
      throw HTTPTransportError(.overloaded, "libcurl has no memory for a request", mayHaveArrived: false)
    }
    self.job = job
    self.handle = handle
    errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
    errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
    do throws(HTTPTransportError) {
      try configure(settings)
      try setRequest()
    } catch {
      free()
      throw error
    }
  }

  func free() {
    curl_easy_cleanup(handle)
    curl_slist_free_all(headerList)
    headerList = nil
    errorText.deallocate()
  }

  private func check(_ code: CURLcode, _ what: String) throws(HTTPTransportError) {
    guard code != CURLE_OK else { return }
    throw HTTPTransportError(
      .invalidRequest, "libcurl refuses \(what) for \(origin): \(String(cString: curl_easy_strerror(code)))",
      mayHaveArrived: false)
  }

  private func configure(_ settings: CurlSettings) throws(HTTPTransportError) {
    let user = Unmanaged.passUnretained(self).toOpaque()
    try check(cmc_curl_set_long(handle, CURLOPT_NOSIGNAL, 1), "NOSIGNAL")
    try check(cmc_curl_set_string(handle, CURLOPT_PROTOCOLS_STR, "http,https"), "protocols")
    try check(cmc_curl_set_long(handle, CURLOPT_FOLLOWLOCATION, 0), "no redirects")
    try check(cmc_curl_set_long(handle, CURLOPT_SSL_VERIFYPEER, 1), "peer verification")
    try check(cmc_curl_set_long(handle, CURLOPT_SSL_VERIFYHOST, 2), "host verification")
    try check(cmc_curl_set_long(handle, CURLOPT_SSLVERSION, Int(CURL_SSLVERSION_TLSv1_2)), "TLS 1.2")
    try check(cmc_curl_set_long(handle, CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_2TLS)), "HTTP/2")
    // Rather wait for a connection that could carry this by HTTP/2 than open one more.
    try check(cmc_curl_set_long(handle, CURLOPT_PIPEWAIT, 1), "PIPEWAIT")
    try check(cmc_curl_set_string(handle, CURLOPT_ACCEPT_ENCODING, ""), "compression")
    let connectSeconds = min(HTTPLimits.connectSeconds, job.request.timeoutSeconds)
    try check(cmc_curl_set_long(handle, CURLOPT_CONNECTTIMEOUT_MS, Self.milliseconds(connectSeconds)), "a time limit")
    try check(cmc_curl_set_long(handle, CURLOPT_TIMEOUT_MS, Self.milliseconds(job.request.timeoutSeconds)), "a limit")
    try check(cmc_curl_set_pointer(handle, CURLOPT_ERRORBUFFER, errorText), "an error buffer")
    try check(cmc_curl_set_pointer(handle, CURLOPT_WRITEDATA, user), "a body reader")
    try check(cmc_curl_set_pointer(handle, CURLOPT_HEADERDATA, user), "a header reader")
    try check(
      cmc_curl_set_callback(handle, CURLOPT_WRITEFUNCTION) { bytes, size, count, user in
        CurlTransfer.received(bytes, size * count, user) { $0.takeBody($1) }
      }, "a body reader")
    try check(
      cmc_curl_set_callback(handle, CURLOPT_HEADERFUNCTION) { bytes, size, count, user in
        CurlTransfer.received(bytes, size * count, user) { $0.takeHeader($1) }
      }, "a header reader")
    if let file = settings.certificateAuthorityFile {
      try check(cmc_curl_set_string(handle, CURLOPT_CAINFO, file), "the certificate authority file")
      if settings.isExclusive { try check(cmc_curl_set_string(handle, CURLOPT_CAPATH, nil), "no directory") }
    }
    if let directory = settings.certificateAuthorityDirectory {
      try check(cmc_curl_set_string(handle, CURLOPT_CAPATH, directory), "the certificate authority directory")
    }
    if !job.request.usesProxy { try check(cmc_curl_set_string(handle, CURLOPT_NOPROXY, "*"), "no proxy") }
  }

  private func setRequest() throws(HTTPTransportError) {
    let request = job.request
    guard !request.url.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7f }) else {
      throw HTTPTransportError(
        .invalidRequest, "the URL of a request to \(origin) holds a space or control character", mayHaveArrived: false)
    }
    try check(cmc_curl_set_string(handle, CURLOPT_URL, request.url), "the URL")
    let body = request.body ?? (request.method == .post ? [] : nil)
    if let body {
      try check(cmc_curl_set_offset(handle, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count)), "the body's size")
      let code = body.withUnsafeBytes { bytes in
        // libcurl copies the bytes; an empty body still needs a pointer that isn't NULL.
        var none: UInt8 = 0
        return withUnsafeMutableBytes(of: &none) { empty in
          cmc_curl_set_pointer(
            handle, CURLOPT_COPYPOSTFIELDS,
            UnsafeMutableRawPointer(mutating: bytes.baseAddress) ?? empty.baseAddress)
        }
      }
      try check(code, "the body")
    }
    try check(cmc_curl_set_string(handle, CURLOPT_CUSTOMREQUEST, request.method.rawValue), "the method")
    // Without this libcurl waits a second for "100 Continue" with large bodies.
    for header in request.headers + [HTTPHeader("Expect", "")] {
      let line = header.value.isEmpty ? "\(header.name):" : "\(header.name): \(header.value)"
      guard !line.utf8.contains(where: { $0 == 0x0d || $0 == 0x0a || $0 == 0 }),
        let longer = curl_slist_append(headerList, line)
      else {
        throw HTTPTransportError(
          .invalidRequest, "header \(header.name) can't be sent: it holds a line break", mayHaveArrived: false)
      }
      headerList = longer
    }
    try check(cmc_curl_set_list(handle, CURLOPT_HTTPHEADER, headerList), "the headers")
  }

  private static func milliseconds(_ seconds: Double) -> Int { Int(max(1, min(seconds, 86_400) * 1000)) }

  private static func received(
    _ bytes: UnsafeMutablePointer<CChar>?, _ count: Int, _ user: UnsafeMutableRawPointer?,
    _ take: (CurlTransfer, UnsafeRawBufferPointer) -> Bool
  ) -> Int {
    guard let bytes, let user else { return 0 }
    let transfer = Unmanaged<CurlTransfer>.fromOpaque(user).takeUnretainedValue()
    // Answering another count makes libcurl abort the transfer.
    return take(transfer, UnsafeRawBufferPointer(start: bytes, count: count)) ? count : count &+ 1
  }

  private func takeBody(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard body.count + bytes.count <= HTTPLimits.responseBytes else {
      exceededLimit = true
      return false
    }
    body.append(contentsOf: bytes)
    return true
  }

  private func takeHeader(_ bytes: UnsafeRawBufferPointer) -> Bool {
    headerBytes += bytes.count
    guard headerBytes <= HTTPLimits.headerBytes else {
      exceededLimit = true
      return false
    }
    let line = String(decoding: bytes, as: UTF8.self)
    if line.hasPrefix("HTTP/") {
      // A new status line: what came before was of an interim answer or of the proxy.
      headers = []
    } else if let colon = line.firstIndex(of: ":") {
      let value = line[line.index(after: colon)...]
      headers.append(HTTPHeader(String(line[..<colon]), Self.trimmed(value)))
    }
    return true
  }

  private static func trimmed(_ text: Substring) -> String {
    var text = text
    while let last = text.last, last.isWhitespace { text.removeLast() }
    while let first = text.first, first.isWhitespace { text.removeFirst() }
    return String(text)
  }

  /// Scheme, host and port: all that a message may show of the URL.
  private var origin: String { URLText.origin(of: job.request.url) ?? "the server" }

  func outcome(_ code: CURLcode) -> Result<HTTPResponse, HTTPTransportError> {
    if code == CURLE_OK {
      var status = 0
      cmc_curl_get_long(handle, CURLINFO_RESPONSE_CODE, &status)
      return .success(HTTPResponse(status: status, headers: headers, body: body))
    }
    if exceededLimit {
      return .failure(
        HTTPTransportError(
          .tooLarge, "the answer of \(origin) is larger than \(HTTPLimits.responseBytes >> 20) MiB",
          mayHaveArrived: true))
    }
    let detail = errorText.pointee == 0 ? String(cString: curl_easy_strerror(code)) : String(cString: errorText)
    var sent = 0
    cmc_curl_get_long(handle, CURLINFO_REQUEST_SIZE, &sent)
    let (kind, mayHaveArrived) = Self.kind(of: code, sent: sent > 0)
    return .failure(HTTPTransportError(kind, "\(origin): \(detail)", mayHaveArrived: mayHaveArrived))
  }

  private static func kind(of code: CURLcode, sent: Bool) -> (HTTPTransportError.Code, Bool) {
    switch code {
    case CURLE_COULDNT_RESOLVE_HOST: (.hostNotFound, false)
    case CURLE_COULDNT_RESOLVE_PROXY, CURLE_PROXY: (.proxyFailed, false)
    case CURLE_COULDNT_CONNECT, CURLE_SSL_CONNECT_ERROR: (.connectFailed, false)
    case CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR: (.untrustedServer, false)
    case CURLE_URL_MALFORMAT, CURLE_UNSUPPORTED_PROTOCOL: (.invalidRequest, false)
    case CURLE_OPERATION_TIMEDOUT: (.timedOut, sent)
    default: (.dropped, sent)
    }
  }
}
