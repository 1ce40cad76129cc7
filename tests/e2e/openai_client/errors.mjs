import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { MODEL, TEXT, all, client } from './client.mjs';

const asked = { model: MODEL, prompt: 'a prompt' };
const chat = { model: MODEL, messages: [{ role: 'user', content: 'a prompt' }] };

async function failure(request) {
  try {
    await request;
  } catch (error) {
    return error;
  }
  assert.fail('nothing was wrong');
}

for (const stream of [false, true]) {
  test(`a request that an engine refuses is refused in its words, stream: ${stream}`, async () => {
    for (const [api, request] of [
      [client.completions, asked],
      [client.chat.completions, chat],
    ]) {
      const error = await failure(api.create({ ...request, max_tokens: -1, stream }));
      assert.ok(error instanceof OpenAI.BadRequestError, error);
      assert.equal(error.status, 400);
      assert.equal(error.message, '400 max_tokens must be at least 1, got -1.');
      assert.equal(error.type, 'BadRequestError');
      assert.equal(error.param, 'max_tokens');
      assert.equal(error.code, 400);
    }
  });

  test(`a model that is not there is not found, stream: ${stream}`, async () => {
    const error = await failure(
      client.chat.completions.create({ ...chat, model: 'no-such', stream }),
    );
    assert.ok(error instanceof OpenAI.NotFoundError, error);
    assert.equal(error.message, '404 The model `no-such` does not exist.');
  });

  test(`an engine that has too much to do says so, stream: ${stream}`, async () => {
    const error = await failure(
      client.completions.create({ ...asked, stream, simulate: { status: 429 } }),
    );
    assert.ok(error instanceof OpenAI.RateLimitError, error);
    assert.equal(error.message, '429 simulated 429');
    assert.equal(error.headers.get('retry-after'), '0');
  });

  test(`an engine that fails is told as it told it, stream: ${stream}`, async () => {
    const error = await failure(
      client.completions.create({ ...asked, stream, simulate: { status: 500 } }),
    );
    assert.ok(error instanceof OpenAI.InternalServerError, error);
    assert.equal(error.status, 500);
    assert.equal(error.message, '500 simulated 500');
    assert.equal(error.type, 'InternalServerError');
  });
}

test('a key that the engine does not take is no way in', async () => {
  const stranger = client.withOptions({ apiKey: 'sk-wrong' });
  const error = await failure(stranger.completions.create(asked));
  assert.ok(error instanceof OpenAI.AuthenticationError, error);
  assert.equal(error.status, 401);
});

test('a body that is no JSON is refused', async () => {
  const answer = await fetch(`${client.baseURL}/completions`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Authorization: 'Bearer sk-test' },
    body: '{"model": "test-model", "prompt": ',
  });
  assert.equal(answer.status, 400);
  assert.match((await answer.json()).error.message, /JSON/);
});

test('the client comes again after 429, and is served', async () => {
  const answer = await client.withOptions({ maxRetries: 2 }).completions.create({
    ...asked,
    user: `comes again ${process.pid}`,
    simulate: { status: 429, times: 1 },
  });
  assert.equal(answer.choices[0].text, TEXT);
});

test('an error within a stream comes after what was made before', async () => {
  const seen = [];
  const error = await failure(
    (async () => {
      const stream = await client.completions.create({
        ...asked,
        stream: true,
        simulate: { error_after: 3 },
      });
      for await (const chunk of stream) seen.push(chunk.choices[0].text);
    })(),
  );
  assert.deepEqual(seen, ['The', ' quick', ' naïve']);
  assert.ok(error instanceof OpenAI.APIError, error);
  assert.match(error.message, /EngineCore died/);
});

test('a stream whose engine died does not look as if it were whole', async () => {
  const request = (async () =>
    all(await client.completions.create({ ...asked, stream: true, simulate: { die_after: 3 } })))();
  const error = await failure(request);
  assert.match(String(error.cause ?? error), /terminated|closed|premature|hang up|reset/i);
});
