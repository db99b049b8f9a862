"""A tool server of the MCP SDK, as its documentation has it: Streamable HTTP without authentication."""

import os

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

PORT = int(os.environ["PORT"])
server = MCPServer("tools")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


# The gateway keeps the host of the client, which this server would refuse to protect browsers.
security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
server.run("streamable-http", host="127.0.0.1", port=PORT, transport_security=security)
