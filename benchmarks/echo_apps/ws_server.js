// `ws` on Node: `node ws_server.js PORT FOLDER`, where FOLDER has the package in node_modules.
"use strict";

const [port, folder] = process.argv.slice(2);
const { WebSocketServer } = require(require.resolve("ws", { paths: [folder] }));
const members = new Set();

new WebSocketServer({ host: "127.0.0.1", port: Number(port) }).on("connection", (ws, request) => {
  ws.on("error", () => {});
  if (request.url === "/fanout") {
    members.add(ws);
    ws.on("close", () => members.delete(ws));
    ws.on("message", (data, binary) => {
      for (const member of members) member.send(data, { binary });
    });
  } else {
    ws.on("message", (data, binary) => ws.send(data, { binary }));
  }
});
