import AgentService
import Glibc

let code = AgentProgram.run(Array(CommandLine.arguments.dropFirst()))
// Not exit(): it would tear OpenSSL and others down under threads that still serve.
fflush(nil)
_exit(code)
