// For each algorithm: the subject of its token, and the name of the error for a changed signature.
export async function tellOfEach(verify) {
  const found = {};
  for (const each of JSON.parse(process.env.CASES)) {
    const subject = await verify(each, each.token);
    const [head, body, signature] = each.token.split(".");
    const changed = [head, body, (signature[0] === "A" ? "B" : "A") + signature.slice(1)].join(".");
    const refusal = await verify(each, changed).catch((error) => error.code ?? error.message);
    found[each.algorithm] = [subject, refusal];
  }
  console.log(JSON.stringify(found));
}
