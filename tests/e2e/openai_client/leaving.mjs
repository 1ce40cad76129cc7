// What the engine saw of it is looked at by test_openai_client.py.
import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import OpenAI from 'openai';
import { MODEL, client } from './client.mjs';

test('a client leaves within a stream', async () => {
  const stream = await client.chat.completions.create({
    model: MODEL,
    messages: [{ role: 'user', content: 'go on' }],
    max_tokens: 8000,
    stream: true,
    user: 'leaves a stream',
    simulate: { gap: 0.01 },
  });
  let chunks = 0;
  for await (const chunk of stream) {
    assert.equal(chunk.object, 'chat.completion.chunk');
    if (++chunks === 4) break; // which aborts it
  }
  assert.equal(chunks, 4);
});

// Side by side, as each waits until its request has come to an engine on a busy machine too.
describe('without an answer', { concurrency: true }, () => {
  const PATIENCE = 1500; // ms

  it('a client leaves before the first byte', async () => {
    const abort = new AbortController();
    const request = client.completions.create(
      { model: MODEL, prompt: 'wait', user: 'leaves early', simulate: { hang: true } },
      { signal: abort.signal },
    );
    setTimeout(() => abort.abort(), PATIENCE);
    await assert.rejects(request, OpenAI.APIUserAbortError);
  });

  it("a client's patience ends", async () => {
    const request = client.completions.create(
      { model: MODEL, prompt: 'wait', user: 'has no patience', simulate: { hang: true } },
      { timeout: PATIENCE },
    );
    await assert.rejects(request, OpenAI.APIConnectionTimeoutError);
  });
});
