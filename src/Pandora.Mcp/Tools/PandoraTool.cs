using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.DependencyInjection;
using ModelContextProtocol.Protocol;
using ModelContextProtocol.Server;
using Pandora.Engine;

namespace Pandora.Mcp.Tools;

/// <summary>
/// A tool: reads its arguments strictly, does its work within the time that clients wait, and turns every failure into an answer that a
/// model can act on.
/// </summary>
/// <typeparam name="TArguments">Its arguments.</typeparam>
/// <typeparam name="TAnswer">Its structured answer.</typeparam>
internal abstract class PandoraTool<TArguments, TAnswer> : McpServerTool
    where TArguments : class
    where TAnswer : class
{
    // Clients cut a call at 60 s and more. After the first time the work is given up; after the second the answer comes in any case.
    private static readonly TimeSpan SoftLimit = TimeSpan.FromSeconds(47), HardLimit = TimeSpan.FromSeconds(50);
    private readonly JsonTypeInfo<TArguments> _argumentsType = (JsonTypeInfo<TArguments>)McpJson.Default.GetTypeInfo(typeof(TArguments))!;
    private readonly JsonTypeInfo<TAnswer> _answerType = (JsonTypeInfo<TAnswer>)McpJson.Default.GetTypeInfo(typeof(TAnswer))!;

    /// <summary>Describes a tool.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="title">Its name for people.</param>
    /// <param name="description">What it does, for a model.</param>
    /// <param name="annotations">What hosts ask their users by.</param>
    protected PandoraTool(string name, string title, string description, ToolAnnotations annotations)
    {
        annotations.Title = title;
        ProtocolTool = new Tool
        {
            Name = name,
            Title = title,
            Description = description,
            InputSchema = ToolSchema.OfArguments(_argumentsType),
            OutputSchema = ToolSchema.OfAnswer(_answerType),
            Annotations = annotations,
        };
    }

    /// <inheritdoc/>
    public override Tool ProtocolTool { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<object> Metadata => [];

    /// <inheritdoc/>
    public override async ValueTask<CallToolResult> InvokeAsync(
        RequestContext<CallToolRequestParams> request, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        var time = request.Services!.GetRequiredService<TimeProvider>();
        using var soft = new CancellationTokenSource(SoftLimit, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, soft.Token);
        try
        {
            var arguments = ToolArguments.Read(request.Params?.Arguments, _argumentsType);
            var answering = AnswerAsync(request, time, arguments, either.Token);
            // A cancelled call ends when its command is dead.
            return await answering.WaitAsync(HardLimit, time, CancellationToken.None);
        }
        catch (PandoraException e)
        {
            return ToolErrors.Of(e);
        }
        catch (Exception e) when (e is TimeoutException or OperationCanceledException && !cancellationToken.IsCancellationRequested)
        {
            return ToolErrors.OfTime(SoftLimit);
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            return ToolErrors.OfUnexpected(request, e);
        }
    }

    /// <summary>Does the work.</summary>
    /// <param name="call">The call.</param>
    /// <param name="arguments">Its arguments.</param>
    /// <exception cref="PandoraException">It was not done.</exception>
    protected abstract Task<ToolAnswer<TAnswer>> CallAsync(ToolCall call, TArguments arguments);

    private async Task<CallToolResult> AnswerAsync(
        RequestContext<CallToolRequestParams> request, TimeProvider time, TArguments arguments, CancellationToken stop)
    {
        await using var call = new ToolCall(request, time, stop);
        try
        {
            var answer = await CallAsync(call, arguments);
            // Nobody would learn of what was made.
            call.Stop.ThrowIfCancellationRequested();
            var structured = JsonSerializer.SerializeToElement(answer.Structured, _answerType);
            List<ContentBlock> content = [new TextContentBlock { Text = answer.Summary }];
            if (answer.FromGuest is { } block)
            {
                content.Add(GuestBlock.Mark(block));
            }

            return new CallToolResult { Content = content, StructuredContent = structured };
        }
        catch (Exception e)
        {
            // A failed call leaves nothing that its client knows nothing of.
            await call.UndoAsync();
            if (e is PandoraException failure)
            {
                return ToolErrors.Of(failure, call.ToldHandle, call.NewSandbox is not null);
            }

            throw;
        }
    }
}

/// <summary>What a tool answers.</summary>
/// <param name="Summary">One line by Pandora, in which nothing of the guest's is.</param>
/// <param name="Structured">The whole answer.</param>
/// <param name="FromGuest">What the guest wrote, for models that are shown content only; null for nothing.</param>
internal sealed record ToolAnswer<T>(string Summary, T Structured, ContentBlock? FromGuest = null);
