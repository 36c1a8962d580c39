/// A libnbd script that sends each command, right and wrong, on a connection of its own, and prints the answer and
/// whether the connection still works. libnbd's own checks are off.
let commandTable = """
  import errno, nbd, sys

  FLAGS = {"FUA": nbd.CMD_FLAG_FUA, "NO_HOLE": nbd.CMD_FLAG_NO_HOLE, "DF": nbd.CMD_FLAG_DF,
           "REQ_ONE": nbd.CMD_FLAG_REQ_ONE, "unknown flag": 1 << 12, "": 0}

  def connect(structured, context=True):
      handle = nbd.NBD()
      handle.set_strict_mode(0)
      handle.set_request_structured_replies(structured)
      if structured and context:
          handle.add_meta_context("base:allocation")
      handle.connect_uri(sys.argv[1])
      return handle

  def attempt(name, structured, action, context=True):
      handle = connect(structured, context)
      try:
          action(handle)
          answer = "ok"
      except nbd.Error as error:
          answer = errno.errorcode.get(error.errnum, str(error.errnum))
      try:
          handle.pread(512, 0)
          life = "alive"
      except nbd.Error:
          life = "dead"
      print("%s %s: %s %s" % ("structured" if structured else "simple", name, answer, life))
      try:
          handle.shutdown()
      except nbd.Error:
          pass

  size = connect(True).get_size()
  seen = lambda *arguments: 0
  commands = {
      "read": lambda h, n, o, f: h.pread(n, o, f),
      "write": lambda h, n, o, f: h.pwrite(bytearray(n), o, f),
      "trim": lambda h, n, o, f: h.trim(n, o, f),
      "zero": lambda h, n, o, f: h.zero(n, o, f),
      "cache": lambda h, n, o, f: h.cache(n, o, f),
      "status": lambda h, n, o, f: h.block_status(n, o, seen, f),
  }
  ranges = {"": (4096, 0), "across the end": (4096, size - 512), "at the end": (512, size),
            "far beyond": (4096, 1 << 62), "of nothing": (0, 0), "unaligned": (7, 3)}
  for structured in (True, False):
      for command, call in commands.items():
          for where, (length, offset) in ranges.items():
              if command == "zero" and where == "unaligned":
                  continue
              attempt(command + " " + where, structured, lambda h: call(h, length, offset, 0))
          for flag, bit in FLAGS.items():
              if flag:
                  attempt(command + " " + flag, structured, lambda h: call(h, 4096, 0, bit))
      attempt("flush", structured, lambda h: h.flush())
      for flag, bit in FLAGS.items():
          attempt("flush " + flag, structured, lambda h: h.flush(bit))
      for command in ("read", "write"):
          for mebibytes in (32, 33, 65):
              attempt("%s %d MiB" % (command, mebibytes), structured,
                      lambda h: commands[command](h, mebibytes << 20, 0, 0))
  attempt("status without context", True, lambda h: h.block_status(4096, 0, seen), False)
  """
