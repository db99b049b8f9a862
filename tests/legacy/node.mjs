// A service on node:http as it is: idle connections end after 5 s, which it announces by `Keep-Alive: timeout=5`.
import { createHash } from "node:crypto";
import { createServer } from "node:http";

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
// Those with a request.
let connections = 0;

async function answer(request, response) {
    request.socket.number ??= ++connections;
    const parts = [];
    for await (const part of request) parts.push(part);
    const body = Buffer.concat(parts);
    const url = new URL(request.url, "http://service");
    const page = (text) => response.setHeader("Content-Type", "text/plain").end(`${text}\n`);
    const lead = (status, target) => response.writeHead(status, { Location: target }).end();
    switch (url.pathname) {
        case "/app/login":
            response.setHeader("Set-Cookie", [
                `user=${new URLSearchParams(body.toString()).get("user")}; Path=/app; SameSite=Lax`,
                "theme=dark; Path=/app/settings",
            ]);
            return lead(302, `http://${request.headers.host}/app/home`);
        case "/app":
            return lead(301, "/app/");
        case "/app/settings":
            return lead(308, "./settings/");
        case "/app/upload":
            return page(`${request.method}: ${body.length} bytes, ${createHash("sha256").update(body).digest("hex")}`);
        case "/app/pieces":
            response.setHeader("Content-Type", "text/plain");
            for (const piece of ["one ", "two ", "three"]) response.write(piece);
            return response.end("\n");
        case "/app/item":
            response.setHeader("Content-Location", "/app/items/7");
            return page("item 7");
        case "/app/connection":
            return page(`connection ${request.socket.number}`);
        case "/pause":
            await pause(4300);
            return page("4.3 s later");
        default:
            return page(`${request.method} ${url.pathname}, cookies: ${request.headers.cookie ?? "none"}`);
    }
}

createServer(answer).listen(Number(process.argv[2]), "127.0.0.1");
