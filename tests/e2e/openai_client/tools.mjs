import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MODEL, TEXT, all, client } from './client.mjs';

const tool = (name) => ({
  type: 'function',
  function: {
    name,
    description: `tells the ${name} of a city`,
    parameters: {
      type: 'object',
      properties: { city: { type: 'string' }, number: { type: 'integer' } },
      required: ['city'],
    },
  },
});
const asked = {
  model: MODEL,
  messages: [{ role: 'user', content: 'how is it there?' }],
  tools: [tool('weather'), tool('time')],
  tool_choice: 'auto',
};

function checkCalls(calls) {
  assert.deepEqual(
    calls.map((call) => [call.type, call.function.name, JSON.parse(call.function.arguments)]),
    [
      ['function', 'weather', { city: 'Zürich', number: 0 }],
      ['function', 'time', { city: 'Zürich', number: 1 }],
    ],
  );
  assert.ok(calls.every((call) => call.id.startsWith('chatcmpl-tool-')));
}

test('an answer calls tools', async () => {
  const answer = await client.chat.completions.create(asked);
  assert.equal(answer.choices[0].finish_reason, 'tool_calls');
  assert.equal(answer.choices[0].message.content, null);
  checkCalls(answer.choices[0].message.tool_calls);
});

test('a stream calls tools, their arguments in pieces', async () => {
  const calls = [];
  const chunks = await all(await client.chat.completions.create({ ...asked, stream: true }));
  for (const { delta } of chunks.map((chunk) => chunk.choices[0])) {
    for (const piece of delta.tool_calls ?? []) {
      const { type, id, function: of } = piece;
      const call = (calls[piece.index] ??= { type, id, function: { name: '', arguments: '' } });
      call.function.name += of.name ?? '';
      call.function.arguments += of.arguments ?? '';
    }
  }
  checkCalls(calls);
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'tool_calls');
});

test("the client's own collector of streams has the calls", async () => {
  const answer = await client.chat.completions.stream(asked).finalChatCompletion();
  checkCalls(answer.choices[0].message.tool_calls);
});

test('tools can be forbidden', async () => {
  const answer = await client.chat.completions.create({ ...asked, tool_choice: 'none' });
  assert.equal(answer.choices[0].message.content, TEXT);
});

for (const stream of [false, true]) {
  test(`the client runs tools and tells their results, stream: ${stream}`, async () => {
    const ran = [];
    const runner = client.chat.completions.runTools({
      ...asked,
      stream,
      tools: asked.tools.map(({ type, function: of }) => ({
        type,
        function: {
          ...of,
          parse: JSON.parse,
          function: ({ city }) => {
            ran.push([of.name, city]);
            return `the ${of.name} of ${city}`;
          },
        },
      })),
    });
    assert.equal(await runner.finalContent(), TEXT);
    assert.deepEqual(ran, [
      ['weather', 'Zürich'],
      ['time', 'Zürich'],
    ]);
    assert.deepEqual(
      runner.messages.filter(({ role }) => role === 'tool').map(({ content }) => content),
      ['the weather of Zürich', 'the time of Zürich'],
    );
  });
}
