import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MODEL, TEXT, TOKENS, all, client } from './client.mjs';

const asked = { model: MODEL, prompt: 'four words are here' };
const usage = {
  prompt_tokens: 4,
  completion_tokens: TOKENS,
  total_tokens: 4 + TOKENS,
  prompt_tokens_details: { cached_tokens: 2 },
};

test('a whole completion has its text, its reason to end and its usage', async () => {
  const answer = await client.completions.create(asked);
  assert.match(answer.id, /^cmpl-/);
  assert.equal(answer.object, 'text_completion');
  assert.equal(answer.choices[0].text, TEXT);
  assert.equal(answer.choices[0].finish_reason, 'stop');
  assert.deepEqual(answer.usage, usage);
});

test('a streamed completion is the same text, a token in each chunk', async () => {
  const chunks = await all(await client.completions.create({ ...asked, stream: true }));
  assert.equal(chunks.length, TOKENS);
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(''), TEXT);
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
  assert.ok(chunks.every((chunk) => chunk.usage === undefined));
});

test('usage ends a stream that asks for it', async () => {
  const chunks = await all(
    await client.completions.create({
      ...asked,
      stream: true,
      stream_options: { include_usage: true },
    }),
  );
  assert.equal(chunks.length, TOKENS + 1);
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.deepEqual(chunks.at(-1).usage, usage);
});

test('max_tokens and several prompts reach the engine as they are', async () => {
  const answer = await client.completions.create({ ...asked, prompt: ['a b', 'c'], max_tokens: 2 });
  assert.deepEqual(
    answer.choices.map((choice) => [choice.index, choice.text, choice.finish_reason]),
    [
      [0, 'The quick', 'length'],
      [1, 'The quick', 'length'],
    ],
  );
  assert.equal(answer.usage.completion_tokens, 4);
});

test('fields that no one knows come to the engine and back', async () => {
  const echo_back = { nested: [1, 2.5, null, 'ü"\\'], large: 9007199254740991 };
  const answer = await client.completions.create({ ...asked, echo_back });
  assert.deepEqual(answer.echo_back, echo_back);
});

test('the first token is there while the engine still holds the second', async () => {
  const name = `held completion ${process.pid}`;
  const stream = await client.completions.create({
    ...asked,
    stream: true,
    simulate: { hold: name },
  });
  const chunks = stream[Symbol.asyncIterator]();
  assert.equal((await chunks.next()).value.choices[0].text, 'The');
  // A path of no API: it goes to an engine as it is.
  assert.deepEqual(await client.post('/release', { body: { name } }), { released: name });
  assert.equal((await chunks.next()).value.choices[0].text, ' quick');
  assert.equal((await all({ [Symbol.asyncIterator]: () => chunks })).length, TOKENS - 2);
});
