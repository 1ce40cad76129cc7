import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MODEL, all, client } from './client.mjs';

test('models are listed, each once', async () => {
  const models = await all(client.models.list());
  assert.deepEqual(models.map((model) => model.id), [MODEL]);
  assert.equal(models[0].owned_by, 'vllm');
});

test('embeddings go to an engine as they are', async () => {
  // The client asks for base64 and decodes it.
  const answer = await client.embeddings.create({ model: MODEL, input: 'some words here' });
  assert.deepEqual(Array.from(answer.data[0].embedding), [0.25, -1.5, 3]);
  assert.equal(answer.usage.prompt_tokens, 3);
});
