using Pandora.Agent.Processes;
using Pandora.Agent.Protocol.Files;

namespace Pandora.Agent.Files;

/// <summary>Who is to own what a request makes.</summary>
/// <param name="User">The user.</param>
/// <param name="Group">The group.</param>
internal readonly record struct FileOwner(uint User, uint Group)
{
    /// <summary>As a number: what there is stays.</summary>
    public const uint Unchanged = uint.MaxValue;

    /// <summary>Reads <c>user</c>, <c>user:group</c> or <c>:group</c>. A user without a group has its own.</summary>
    /// <returns>Null for no owner.</returns>
    /// <exception cref="FileFailedException">The guest has no such user or group.</exception>
    public static FileOwner? Parse(string? text)
    {
        if (text is null)
        {
            return null;
        }

        var colon = text.IndexOf(':', StringComparison.Ordinal);
        var (user, group) = colon < 0 ? (text, null) : (text[..colon], text[(colon + 1)..]);
        if (user.Length == 0 && string.IsNullOrEmpty(group))
        {
            throw Unknown("user", text);
        }

        var account = user.Length == 0 ? null : Account.Find(user) ?? throw Unknown("user", user);
        var groupId = string.IsNullOrEmpty(group) ? account!.Group : Account.FindGroup(group) ?? throw Unknown("group", group);
        return new FileOwner(account?.User ?? Unchanged, groupId);
    }

    /// <summary>The failure of a name that the guest does not have.</summary>
    public static FileFailedException Unknown(string what, string name) =>
        new(FileFailureKind.User, $"the guest has no {what} {FilePath.Show(System.Text.Encoding.UTF8.GetBytes(name))}");
}
