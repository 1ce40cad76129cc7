import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MODEL, TEXT, TOKENS, all, client } from './client.mjs';

const asked = {
  model: MODEL,
  messages: [
    { role: 'system', content: 'you answer' },
    { role: 'user', content: 'what is “this”?' },
  ],
};

test('a whole chat completion has its message and its usage', async () => {
  const answer = await client.chat.completions.create(asked);
  assert.match(answer.id, /^chatcmpl-/);
  assert.equal(answer.choices[0].message.role, 'assistant');
  assert.equal(answer.choices[0].message.content, TEXT);
  assert.equal(answer.choices[0].finish_reason, 'stop');
  assert.equal(answer.usage.prompt_tokens, 5);
  assert.equal(answer.usage.completion_tokens, TOKENS);
  assert.equal(answer.usage.prompt_tokens_details.cached_tokens, 2);
});

test('max_completion_tokens ends an answer', async () => {
  const answer = await client.chat.completions.create({ ...asked, max_completion_tokens: 3 });
  assert.equal(answer.choices[0].message.content, 'The quick naïve');
  assert.equal(answer.choices[0].finish_reason, 'length');
});

test('a streamed chat is a role, then its text in deltas, then its usage', async () => {
  const chunks = await all(
    await client.chat.completions.create({
      ...asked,
      stream: true,
      stream_options: { include_usage: true },
    }),
  );
  assert.equal(chunks.length, TOKENS + 2);
  assert.equal(chunks[0].choices[0].delta.role, 'assistant');
  assert.equal(
    chunks.slice(0, -1).map((chunk) => chunk.choices[0].delta.content).join(''),
    TEXT,
  );
  assert.equal(chunks.at(-2).choices[0].finish_reason, 'stop');
  assert.equal(chunks.at(-1).usage.completion_tokens, TOKENS);
});

test("the client's own collector of streams gives the whole answer", async () => {
  const stream = client.chat.completions.stream(asked);
  let seen = '';
  stream.on('content', (delta) => (seen += delta));
  const answer = await stream.finalChatCompletion();
  assert.equal(answer.choices[0].message.content, TEXT);
  assert.equal(seen, TEXT);
});

test('two answers at once come in their own order', async () => {
  const chunks = await all(
    await client.chat.completions.create({ ...asked, n: 2, max_tokens: 2, stream: true }),
  );
  for (const index of [0, 1]) {
    const own = chunks.map((chunk) => chunk.choices[0]).filter((choice) => choice.index === index);
    assert.equal(own.map((choice) => choice.delta.content).join(''), 'The quick');
  }
});

test('many streams at once are kept apart', async () => {
  const answers = await Promise.all(
    Array.from({ length: 50 }, async (_, i) => {
      const chunks = await all(
        await client.chat.completions.create({
          ...asked,
          max_tokens: 1 + (i % TOKENS),
          stream: true,
        }),
      );
      return [chunks.length, new Set(chunks.map((chunk) => chunk.id)).size];
    }),
  );
  assert.deepEqual(
    answers,
    answers.map((_, i) => [2 + (i % TOKENS), 1]),
  );
});
